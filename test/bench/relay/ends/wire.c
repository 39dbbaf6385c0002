/* See wire.h. TLS reads from the socket by itself; what it writes is gathered with the rest. */
#include "wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A message of 50 MB in TLS records. */
static const size_t max_out = 64 << 20;
/* Some records at once; below it a message of 100 KB takes as many reads as records, twice. */
static const size_t read_ahead = 64 << 10;

static int loop = -1;

double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  ERR_print_errors_fp(stderr);
  exit(1);
}

/* The loop. */

static void control(int action, int fd, unsigned events, void *owner) {
  if (loop < 0) loop = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = events, .data.ptr = owner};
  if (epoll_ctl(loop, action, fd, &event) < 0) die("epoll_ctl");
}

void watch(int fd, void *owner) { control(EPOLL_CTL_ADD, fd, EPOLLIN, owner); }

int wait_events(struct epoll_event *events, int room, int timeout_ms) {
  int count = epoll_wait(loop, events, room, timeout_ms);
  if (count < 0 && errno != EINTR) die("epoll_wait");
  return count;
}

static void set_blocked(struct wire *wire, bool is_blocked) {
  if (wire->is_blocked == is_blocked) return;
  wire->is_blocked = is_blocked;
  control(EPOLL_CTL_MOD, wire->fd, is_blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, wire->owner);
}

/* Between TLS and the socket. */

static void append(struct wire *wire, const char *data, size_t size) {
  size_t wanted = wire->out_size + size;
  if (wanted > wire->out_room) {
    size_t room = wire->out_room ? wire->out_room : 1024;
    while (room < wanted) room *= 2;
    if (room > max_out) die("more to send than a connection may hold");
    wire->out = realloc(wire->out, room);
    if (!wire->out) die("memory");
    wire->out_room = room;
  }
  memcpy(wire->out + wire->out_size, data, size);
  wire->out_size = wanted;
}

static bool would_block(void) { return errno == EAGAIN || errno == EINTR; }

static int bio_write(BIO *bio, const char *data, int size) {
  append(BIO_get_data(bio), data, size);
  return size;
}

static int bio_read(BIO *bio, char *room, int size) {
  struct wire *wire = BIO_get_data(bio);
  ssize_t got = recv(wire->fd, room, size, 0);
  BIO_clear_retry_flags(bio);
  if (got < 0 && would_block()) BIO_set_retry_read(bio);
  return got;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
  (void)bio, (void)number, (void)pointer;
  return command == BIO_CTRL_FLUSH;
}

static BIO *bio_of(struct wire *wire) {
  static BIO_METHOD *method;
  if (!method) {
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wire");
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_ctrl(method, bio_control);
  }
  BIO *bio = BIO_new(method);
  if (!bio) die("memory");
  BIO_set_data(bio, wire);
  BIO_set_init(bio, 1);
  return bio;
}

SSL_CTX *make_tls(const SSL_METHOD *method) {
  SSL_CTX *tls = SSL_CTX_new(method);
  if (!tls || !SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) || !SSL_CTX_set1_groups_list(tls, "X25519"))
    die("TLS");
  SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_read_ahead(tls, 1);
  SSL_CTX_set_default_read_buffer_len(tls, read_ahead);
  return tls;
}

/* A connection. */

void wire_open(struct wire *wire, int fd, void *owner) {
  int on = 1;
  wire->fd = fd;
  wire->owner = owner;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  watch(fd, owner);
}

void wire_start_tls(struct wire *wire, SSL_CTX *tls, bool is_server) {
  wire->ssl = SSL_new(tls);
  if (!wire->ssl) die("TLS");
  BIO *bio = bio_of(wire);
  SSL_set_bio(wire->ssl, bio, bio);
  if (is_server) SSL_set_accept_state(wire->ssl);
  else SSL_set_connect_state(wire->ssl);
}

static bool goes_on(struct wire *wire, int result) {
  if (SSL_get_error(wire->ssl, result) == SSL_ERROR_WANT_READ) return true;
  // What another connection did is not to be found in OpenSSL's list of errors.
  ERR_clear_error();
  return false;
}

int wire_handshake(struct wire *wire) {
  int result = SSL_do_handshake(wire->ssl);
  if (result == 1) return 1;
  return goes_on(wire, result) ? 0 : -1;
}

void wire_put(struct wire *wire, const char *text, size_t size) {
  if (!wire->ssl) append(wire, text, size);
  else if (SSL_write(wire->ssl, text, size) <= 0) wire->is_broken = true, ERR_clear_error();
}

bool wire_flush(struct wire *wire) {
  while (wire->sent < wire->out_size) {
    ssize_t sent = send(wire->fd, wire->out + wire->sent, wire->out_size - wire->sent, MSG_NOSIGNAL);
    if (sent < 0 && !would_block()) return false;
    if (sent < 0) {
      set_blocked(wire, true);
      return true;
    }
    wire->sent += sent;
  }
  wire->out_size = wire->sent = 0;
  set_blocked(wire, false);
  return !wire->is_broken;
}

long wire_read(struct wire *wire, char *room, size_t size) {
  if (wire->ssl) {
    int got = SSL_read(wire->ssl, room, size);
    if (got > 0) return got;
    return goes_on(wire, got) ? 0 : -1;
  }
  ssize_t got = recv(wire->fd, room, size, 0);
  if (got > 0) return got;
  return got < 0 && would_block() ? 0 : -1;
}

void wire_put_end(struct wire *wire) {
  if (wire->ssl) SSL_shutdown(wire->ssl);
}

void wire_close(struct wire *wire) {
  SSL_free(wire->ssl);
  close(wire->fd);
  free(wire->out);
  *wire = (struct wire){.fd = -1};
}
