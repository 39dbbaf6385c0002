/*
 * UDP sockets that take and send up to 64 packets with one system call: recvmmsg(2), sendmmsg(2).
 *
 * Promise: no pointer into JavaScript's memory outlives the call that brought it, every offset and length
 * is checked against the memory given, and an answer leaves from the address that was asked, also where
 * the socket is bound to all of them. All state hangs on one handle, so any number of threads may have
 * one; a thread's end closes its sockets.
 *
 * Not here: what a packet means. udp-batch.ts calls open, bind, then receive and send by turns.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <node_api.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  BATCH = 64,
  MAX_SOCKETS = 16,
  PACKET_WORDS = 3,   /* of what receive says about a packet: length or -1 when cut, family, port */
  ADDRESS_OCTETS = 16,
  SPAN_WORDS = 2,     /* of what send is told about an answer: offset, length or 0 */
  MAX_ANSWER = 65507, /* what UDP over IPv4 can carry */
  SEND_TIMEOUT_MS = 20,
};

struct batch {
  int sockets, next, received;
  int from; /* the socket of the batch in hand */
  struct pollfd polls[MAX_SOCKETS];
  bool is_wildcard[MAX_SOCKETS];
  struct mmsghdr in[BATCH], out[BATCH];
  struct iovec in_vec[BATCH], out_vec[BATCH];
  struct sockaddr_storage peers[BATCH];
  _Alignas(struct cmsghdr) unsigned char control[BATCH][CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

static napi_value failed(napi_env env, const char *code, const char *what) {
  napi_throw_error(env, code, what);
  return NULL;
}

static napi_value number(napi_env env, int value) {
  napi_value result;
  return napi_create_int32(env, value, &result) == napi_ok ? result : NULL;
}

static void close_all(struct batch *b) {
  for (int i = 0; i < b->sockets; i++) close(b->polls[i].fd);
  b->sockets = b->received = b->next = 0;
}

static void finalize(napi_env env, void *data, void *hint) {
  (void)env, (void)hint;
  close_all(data);
  free(data);
}

static napi_value open_batch(napi_env env, napi_callback_info info) {
  (void)info;
  napi_value handle;
  struct batch *b = calloc(1, sizeof *b);
  if (!b) return failed(env, "ENOMEM", "no memory for a batch");
  if (napi_create_external(env, b, finalize, NULL, &handle) == napi_ok) return handle;
  free(b);
  return NULL;
}

/* The arguments of a call; the first is the handle. */
static struct batch *batch_of(napi_env env, napi_callback_info info, size_t count, napi_value *args) {
  void *data = NULL;
  size_t given = count;
  napi_valuetype type;
  if (napi_get_cb_info(env, info, &given, args, NULL, NULL) != napi_ok || given < count ||
      napi_typeof(env, args[0], &type) != napi_ok || type != napi_external ||
      napi_get_value_external(env, args[0], &data) != napi_ok) {
    failed(env, "ERR_INVALID_ARG_TYPE", "a batch and its arguments are needed");
    return NULL;
  }
  return data;
}

/* The memory behind a typed array; its length in elements, or 0 when it is another kind of array. */
static void *memory_of(napi_env env, napi_value value, napi_typedarray_type wanted, size_t *length) {
  napi_typedarray_type type;
  void *data = NULL;
  bool is_typed = false;
  *length = 0;
  if (napi_is_typedarray(env, value, &is_typed) != napi_ok || !is_typed) return NULL;
  if (napi_get_typedarray_info(env, value, &type, length, &data, NULL, NULL) != napi_ok || type != wanted)
    *length = 0;
  return data;
}

static int bound(const struct addrinfo *to, bool reuse_port, int receive_octets) {
  int on = 1, send_octets = receive_octets;
  struct timeval patience = { .tv_usec = SEND_TIMEOUT_MS * 1000 };
  int fd = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  bool is_6 = to->ai_family == AF_INET6;
  /* Buffers as large as the kernel allows: less is no error. */
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_octets, sizeof receive_octets);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_octets, sizeof send_octets);
  if ((reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on)) ||
      setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) ||
      (is_6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on)) ||
      (is_6 ? setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on)
            : setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on)) ||
      bind(fd, to->ai_addr, to->ai_addrlen)) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

static bool is_wildcard(const struct sockaddr *address) {
  if (address->sa_family == AF_INET)
    return ((const struct sockaddr_in *)address)->sin_addr.s_addr == htonl(INADDR_ANY);
  return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static int port_of(const struct sockaddr_storage *address) {
  return ntohs(address->ss_family == AF_INET ? ((const struct sockaddr_in *)address)->sin_port
                                             : ((const struct sockaddr_in6 *)address)->sin6_port);
}

/* bind(batch, host, port, reusePort, receiveBufferOctets): the port, or -errno. */
static napi_value bind_socket(napi_env env, napi_callback_info info) {
  napi_value args[5];
  char host[128], service[16];
  size_t length;
  int32_t port, octets;
  bool reuse_port;
  struct addrinfo *to, hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM };
  struct sockaddr_storage own;
  socklen_t own_length = sizeof own;
  struct batch *b = batch_of(env, info, 5, args);
  if (!b) return NULL;
  if (napi_get_value_string_utf8(env, args[1], host, sizeof host, &length) != napi_ok ||
      napi_get_value_int32(env, args[2], &port) != napi_ok || port < 0 || port > 65535 ||
      napi_get_value_bool(env, args[3], &reuse_port) != napi_ok ||
      napi_get_value_int32(env, args[4], &octets) != napi_ok || octets < 0)
    return failed(env, "ERR_INVALID_ARG_TYPE", "bind(batch, host, port, reusePort, octets)");
  if (b->sockets == MAX_SOCKETS) return failed(env, "ENOBUFS", "too many addresses to listen on");
  snprintf(service, sizeof service, "%d", port);
  if (getaddrinfo(host, service, &hints, &to)) return failed(env, "EINVAL", "no IP address to listen on");
  int fd = bound(to, reuse_port, octets), error = errno;
  bool wildcard = is_wildcard(to->ai_addr);
  freeaddrinfo(to);
  if (fd < 0) return number(env, -error);
  b->polls[b->sockets] = (struct pollfd){ .fd = fd, .events = POLLIN };
  b->is_wildcard[b->sockets++] = wildcard;
  return number(env, getsockname(fd, (struct sockaddr *)&own, &own_length) ? -errno : port_of(&own));
}

/* What waits on one socket, without waiting for it. */
static int take(struct batch *b, int socket, unsigned char *input, size_t stride) {
  for (int i = 0; i < BATCH; i++) {
    b->in_vec[i] = (struct iovec){ input + i * stride, stride };
    b->in[i].msg_hdr = (struct msghdr){
      .msg_name = &b->peers[i], .msg_namelen = sizeof b->peers[i],
      .msg_iov = &b->in_vec[i], .msg_iovlen = 1,
      .msg_control = b->is_wildcard[socket] ? b->control[i] : NULL,
      .msg_controllen = b->is_wildcard[socket] ? sizeof b->control[i] : 0,
    };
  }
  return recvmmsg(b->polls[socket].fd, b->in, BATCH, MSG_DONTWAIT, NULL);
}

/* By turns, so that a flood on one address keeps no other from its answers. */
static int take_any(struct batch *b, unsigned char *input, size_t stride) {
  for (int tries = 0; tries < b->sockets; tries++) {
    b->from = b->next;
    b->next = (b->next + 1) % b->sockets;
    int count = take(b, b->from, input, stride);
    if (count > 0) return count;
  }
  return 0;
}

/* The local address stays as the packet brought it; the way back is the routing table's choice. */
static void turn_around(struct msghdr *message) {
  struct cmsghdr *c = CMSG_FIRSTHDR(message);
  if (!c || (message->msg_flags & MSG_CTRUNC)) {
    message->msg_controllen = 0;
  } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO &&
             c->cmsg_len == CMSG_LEN(sizeof(struct in_pktinfo))) {
    ((struct in_pktinfo *)CMSG_DATA(c))->ipi_ifindex = 0;
  } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO &&
             c->cmsg_len == CMSG_LEN(sizeof(struct in6_pktinfo))) {
    struct in6_pktinfo *to = (struct in6_pktinfo *)CMSG_DATA(c);
    if (!IN6_IS_ADDR_LINKLOCAL(&to->ipi6_addr)) to->ipi6_ifindex = 0;
  } else {
    message->msg_controllen = 0;
  }
}

static void describe(const struct batch *b, int i, int32_t *packet, unsigned char *address) {
  const struct sockaddr_storage *peer = &b->peers[i];
  bool is_4 = peer->ss_family == AF_INET;
  packet[0] = b->in[i].msg_hdr.msg_flags & MSG_TRUNC ? -1 : (int32_t)b->in[i].msg_len;
  packet[1] = is_4 ? 4 : 6;
  packet[2] = port_of(peer);
  if (is_4) memcpy(address, &((const struct sockaddr_in *)peer)->sin_addr, 4);
  else memcpy(address, &((const struct sockaddr_in6 *)peer)->sin6_addr, ADDRESS_OCTETS);
}

/* receive(batch, input, packets, addresses, timeoutMs): how many packets, each at its 64th of input. */
static napi_value receive(napi_env env, napi_callback_info info) {
  napi_value args[5];
  size_t octets, words, address_octets;
  int32_t timeout;
  struct batch *b = batch_of(env, info, 5, args);
  if (!b) return NULL;
  unsigned char *input = memory_of(env, args[1], napi_uint8_array, &octets);
  int32_t *packets = memory_of(env, args[2], napi_int32_array, &words);
  unsigned char *addresses = memory_of(env, args[3], napi_uint8_array, &address_octets);
  if (octets < BATCH || words < BATCH * PACKET_WORDS || address_octets < BATCH * ADDRESS_OCTETS ||
      napi_get_value_int32(env, args[4], &timeout) != napi_ok || timeout < 0)
    return failed(env, "ERR_INVALID_ARG_VALUE", "receive(batch, input, packets, addresses, timeoutMs)");
  b->received = take_any(b, input, octets / BATCH);
  if (b->received == 0 && poll(b->polls, b->sockets, timeout) > 0)
    b->received = take_any(b, input, octets / BATCH);
  for (int i = 0; i < b->received; i++) {
    if (b->is_wildcard[b->from]) turn_around(&b->in[i].msg_hdr);
    describe(b, i, packets + i * PACKET_WORDS, addresses + i * ADDRESS_OCTETS);
  }
  return number(env, b->received);
}

/* A send that fails costs its answer, not those behind it. */
static int send_all(struct batch *b, int count) {
  int lost = 0;
  for (int at = 0; at < count;) {
    int sent = sendmmsg(b->polls[b->from].fd, b->out + at, count - at, 0);
    if (sent > 0) {
      at += sent;
    } else if (errno != EINTR) {
      at++;
      lost++;
    }
  }
  return lost;
}

/* send(batch, output, spans): answers the packets of the last receive; how many could not be sent. */
static napi_value send_batch(napi_env env, napi_callback_info info) {
  napi_value args[3];
  size_t octets, words;
  int count = 0;
  struct batch *b = batch_of(env, info, 3, args);
  if (!b) return NULL;
  unsigned char *output = memory_of(env, args[1], napi_uint8_array, &octets);
  const int32_t *spans = memory_of(env, args[2], napi_int32_array, &words);
  if (words < BATCH * SPAN_WORDS) return failed(env, "ERR_INVALID_ARG_VALUE", "send(batch, output, spans)");
  for (int i = 0; i < b->received; i++) {
    int32_t at = spans[i * SPAN_WORDS], length = spans[i * SPAN_WORDS + 1];
    if (length == 0) continue;
    if (at < 0 || length < 0 || length > MAX_ANSWER || (size_t)at + (size_t)length > octets)
      return failed(env, "ERR_OUT_OF_RANGE", "an answer outside the output");
    const struct msghdr *query = &b->in[i].msg_hdr;
    b->out_vec[count] = (struct iovec){ output + at, length };
    b->out[count].msg_hdr = (struct msghdr){
      .msg_name = query->msg_name, .msg_namelen = query->msg_namelen,
      .msg_iov = &b->out_vec[count], .msg_iovlen = 1,
      .msg_control = query->msg_controllen ? query->msg_control : NULL,
      .msg_controllen = query->msg_controllen,
    };
    count++;
  }
  int lost = count > 0 ? send_all(b, count) : 0;
  b->received = 0;
  return number(env, lost);
}

static napi_value close_batch(napi_env env, napi_callback_info info) {
  napi_value args[1];
  struct batch *b = batch_of(env, info, 1, args);
  if (b) close_all(b);
  return NULL;
}

NAPI_MODULE_INIT() {
  static const struct { const char *name; napi_callback call; } calls[] = {
    { "open", open_batch }, { "bind", bind_socket }, { "receive", receive },
    { "send", send_batch }, { "close", close_batch },
  };
  napi_value source;
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    napi_value call;
    if (napi_create_function(env, calls[i].name, NAPI_AUTO_LENGTH, calls[i].call, NULL, &call) != napi_ok ||
        napi_set_named_property(env, exports, calls[i].name, call) != napi_ok)
      return NULL;
  }
  /* What it was built from, so that an old one is not taken for this. */
  if (napi_create_string_utf8(env, SOURCE_HASH, NAPI_AUTO_LENGTH, &source) != napi_ok ||
      napi_set_named_property(env, exports, "sourceHash", source) != napi_ok)
    return NULL;
  return exports;
}
