/*
 * The load of the DNS benchmark: asks one server on 127.0.0.1 as fast as it answers, or at a given rate.
 *
 *   load PORT QUERIES [spread]
 *
 * QUERIES: a file of lines `name TYPE answer kind source`. TYPE: A or TXT. `answer`: the address that an A must
 * hold, `+` for any one record, `-` for NXDOMAIN. `kind`: plain, edns, or cookie, which is EDNS with a cookie
 * that grows by what the server gives, as a client's does. With `spread` each query leaves from its `source`.
 *
 * Orders come as lines, and for each a line of JSON goes out:
 *   closed SECONDS WINDOW   so many unanswered queries at a time on each of the sockets
 *   open SECONDS RATE       so many queries a second, whatever comes back
 *
 * Promise: every answer is compared with what was asked and what it must say. A query without an answer for
 * 300 ms is lost. What the load could not send in time it leaves out and does not send late: `sent` tells.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  BATCH = 32,
  SOCKETS = 4,
  IDS = 65536,
  QUERY_OCTETS = 192,
  ANSWER_OCTETS = 1500,
  CLIENT_COOKIE = 8,
  COOKIE = 24, /* RFC 9018: the client's and the server's */
  OPT = 41,
  OPTION_COOKIE = 10,
};

static const double patience = 0.3;

struct query {
  uint8_t wire[QUERY_OCTETS];
  uint16_t octets, question_end, opt_at; /* opt_at: 0 without */
  bool is_cookie;
  char wanted; /* 'a', '+' or '-' */
  uint8_t address[4];
  struct in_addr source;
};

struct slot { double sent_at; uint32_t query; bool is_waiting; };

struct lane {
  int fd;
  uint16_t next, oldest;
  long waiting;
  struct slot slots[IDS];
};

struct count { long sent, answered, lost, wrong, late, cookies; };

static struct query *queries;
static uint32_t query_count, next_query;
static struct lane *lanes;
static struct count count;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what) {
  perror(what);
  exit(2);
}

/* Queries. */

static uint8_t *put16(uint8_t *at, unsigned value) {
  *at++ = value >> 8;
  *at++ = value & 255;
  return at;
}

static unsigned get16(const uint8_t *at) { return at[0] << 8 | at[1]; }

static uint8_t *put_name(uint8_t *at, const char *name) {
  while (*name) {
    size_t octets = strcspn(name, ".");
    *at++ = (uint8_t)octets;
    memcpy(at, name, octets);
    at += octets;
    name += octets + (name[octets] == '.');
  }
  *at++ = 0;
  return at;
}

/* The lengths that depend on how much cookie there is. */
static void set_cookie_octets(struct query *q, unsigned octets) {
  put16(q->wire + q->opt_at + 9, 4 + octets);
  put16(q->wire + q->opt_at + 13, octets);
  q->octets = q->opt_at + 15 + octets;
}

static void encode(struct query *q, const char *name, const char *type, const char *kind) {
  uint8_t *at = q->wire + 12;
  q->wire[5] = 1; /* QDCOUNT */
  at = put_name(at, name);
  at = put16(at, strcmp(type, "TXT") ? 1 : 16);
  at = put16(at, 1);
  q->octets = q->question_end = at - q->wire;
  if (!strcmp(kind, "plain")) return;
  q->wire[11] = 1; /* ARCOUNT */
  q->opt_at = at - q->wire;
  *at++ = 0;
  at = put16(at, OPT);
  at = put16(at, 1232);
  memset(at, 0, 6); /* TTL and length */
  q->octets = q->opt_at + 11;
  q->is_cookie = !strcmp(kind, "cookie");
  if (!q->is_cookie) return;
  put16(q->wire + q->opt_at + 11, OPTION_COOKIE);
  for (int i = 0; i < CLIENT_COOKIE; i++) q->wire[q->opt_at + 15 + i] = rand();
  set_cookie_octets(q, CLIENT_COOKIE);
}

static void read_queries(const char *path) {
  FILE *f = fopen(path, "r");
  char name[128], type[8], answer[20], kind[8], source[20];
  uint32_t room = 0;
  if (!f) die(path);
  while (fscanf(f, "%127s %7s %19s %7s %19s", name, type, answer, kind, source) == 5) {
    if (query_count == room) {
      room = room ? 2 * room : 1024;
      queries = realloc(queries, room * sizeof *queries);
      if (!queries) die("memory");
    }
    struct query *q = &queries[query_count++];
    memset(q, 0, sizeof *q);
    encode(q, name, type, kind);
    q->wanted = answer[1] ? 'a' : answer[0];
    if (q->wanted == 'a' && inet_pton(AF_INET, answer, q->address) != 1) die(answer);
    if (inet_pton(AF_INET, source, &q->source) != 1) die(source);
  }
  fclose(f);
  if (query_count == 0) die("no queries");
}

/* Answers. */

static bool is_right(const struct query *q, const uint8_t *in, unsigned octets) {
  if (octets < q->question_end || (in[2] & 0xfa) != 0x80) return false; /* QR, QUERY, no TC */
  if (memcmp(in + 12, q->wire + 12, q->question_end - 12)) return false;
  unsigned rcode = in[3] & 15, answers = get16(in + 6);
  if (q->wanted == '-') return rcode == 3 && answers == 0;
  if (rcode != 0 || answers != 1) return false;
  /* A pointer to the name asked, type, class, TTL, length, data. */
  const uint8_t *record = in + q->question_end;
  return octets >= q->question_end + 16u && record[0] == 0xc0 && record[1] == 12 &&
         !memcmp(record + 2, q->wire + q->question_end - 4, 4) &&
         (q->wanted == '+' || !memcmp(record + 12, q->address, 4));
}

/* What the server made of our cookie stands behind its OPT, at the end. */
static void keep_cookie(struct query *q, const uint8_t *in, unsigned octets) {
  if (octets < q->question_end + 15u + COOKIE) return;
  const uint8_t *option = in + octets - COOKIE - 4, *opt = option - 11;
  if (get16(option) != OPTION_COOKIE || get16(option + 2) != COOKIE || get16(opt + 1) != OPT) return;
  if (memcmp(option + 4, q->wire + q->opt_at + 15, CLIENT_COOKIE)) return;
  memcpy(q->wire + q->opt_at + 15, option + 4, COOKIE);
  set_cookie_octets(q, COOKIE);
  count.cookies++;
}

static void take_answer(struct lane *lane, const uint8_t *in, unsigned octets) {
  if (octets < 12) {
    count.wrong++;
    return;
  }
  struct slot *slot = &lane->slots[get16(in)];
  if (!slot->is_waiting) {
    count.late++;
    return;
  }
  struct query *q = &queries[slot->query];
  slot->is_waiting = false;
  lane->waiting--;
  if (!is_right(q, in, octets)) count.wrong++;
  else count.answered++;
  if (q->is_cookie) keep_cookie(q, in, octets);
}

static int receive(struct lane *lane) {
  static uint8_t in[BATCH][ANSWER_OCTETS];
  static struct iovec parts[BATCH];
  static struct mmsghdr messages[BATCH];
  for (int i = 0; i < BATCH; i++) {
    parts[i] = (struct iovec){in[i], ANSWER_OCTETS};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }
  int got = recvmmsg(lane->fd, messages, BATCH, MSG_DONTWAIT, NULL);
  for (int i = 0; i < got; i++) take_answer(lane, in[i], messages[i].msg_len);
  return got;
}

/* Ids are given in order, so the oldest are found from one end. */
static void give_up(struct lane *lane, double before) {
  while (lane->oldest != lane->next) {
    struct slot *slot = &lane->slots[lane->oldest];
    if (slot->is_waiting && slot->sent_at >= before) return;
    if (slot->is_waiting) {
      slot->is_waiting = false;
      lane->waiting--;
      count.lost++;
    }
    lane->oldest++;
  }
}

/* Sending. */

static struct sockaddr_in server = {.sin_family = AF_INET};
static bool is_spread;

static void leave_from(struct msghdr *message, struct in_addr source, unsigned char *control) {
  message->msg_name = &server;
  message->msg_namelen = sizeof server;
  message->msg_control = control;
  message->msg_controllen = CMSG_SPACE(sizeof(struct in_pktinfo));
  struct cmsghdr *c = CMSG_FIRSTHDR(message);
  *c = (struct cmsghdr){.cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
  c->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
  struct in_pktinfo from = {.ipi_spec_dst = source};
  memcpy(CMSG_DATA(c), &from, sizeof from);
}

/* As many of the next queries as are due, at most a batch. */
static void send_queries(struct lane *lane, int due) {
  static uint8_t out[BATCH][QUERY_OCTETS];
  static _Alignas(struct cmsghdr) unsigned char control[BATCH][CMSG_SPACE(sizeof(struct in_pktinfo))];
  static struct iovec parts[BATCH];
  static struct mmsghdr messages[BATCH];
  double at = now();
  if (due > BATCH) due = BATCH;
  for (int i = 0; i < due; i++) {
    uint16_t id = lane->next + i;
    struct query *q = &queries[next_query];
    memcpy(out[i], q->wire, q->octets);
    put16(out[i], id);
    parts[i] = (struct iovec){out[i], q->octets};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    if (is_spread) leave_from(&messages[i].msg_hdr, q->source, control[i]);
    lane->slots[id] = (struct slot){.sent_at = at, .query = next_query, .is_waiting = true};
    if (++next_query == query_count) next_query = 0;
  }
  int gone = sendmmsg(lane->fd, messages, due, 0);
  if (gone < 0) gone = 0;
  for (int i = gone; i < due; i++) lane->slots[(uint16_t)(lane->next + i)].is_waiting = false;
  lane->next += gone;
  lane->waiting += gone;
  count.sent += gone;
}

static void open_lanes(void) {
  lanes = calloc(SOCKETS, sizeof *lanes);
  if (!lanes) die("memory");
  for (int i = 0; i < SOCKETS; i++) {
    int octets = 4 << 20;
    lanes[i].fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(lanes[i].fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets);
    setsockopt(lanes[i].fd, SOL_SOCKET, SO_SNDBUF, &octets, sizeof octets);
    if (lanes[i].fd < 0) die("socket");
    if (!is_spread && connect(lanes[i].fd, (void *)&server, sizeof server)) die("connect");
  }
}

/* Waits for what is still under way; the rest is lost. */
static void finish(void) {
  double end = now() + patience;
  for (int i = 0; i < SOCKETS; i++) {
    while (lanes[i].waiting > 0 && now() < end) receive(&lanes[i]);
    give_up(&lanes[i], end);
  }
}

/* A spinning load: one that slept would have to be woken, and the server would pay for that. */
static double run_closed(double seconds, int window) {
  double start = now(), t;
  int least = window < BATCH ? 1 : BATCH / 2;
  while ((t = now()) < start + seconds) {
    for (int i = 0; i < SOCKETS; i++) {
      struct lane *lane = &lanes[i];
      receive(lane);
      give_up(lane, t - patience);
      int room = window - lane->waiting;
      if (room >= least) send_queries(lane, room);
    }
  }
  return t - start;
}

static double run_open(double seconds, double rate) {
  double start = now(), t;
  long due = 0;
  for (int turn = 0; (t = now()) < start + seconds; turn = (turn + 1) % SOCKETS) {
    struct lane *lane = &lanes[turn];
    receive(lane);
    give_up(lane, t - patience);
    long behind = (long)((t - start) * rate) - due;
    /* We were kept from the core: a burst of what was missed would test the server's queue alone. */
    if (behind > 2 * BATCH) due += behind - 2 * BATCH, behind = 2 * BATCH;
    if (behind > BATCH) behind = BATCH;
    if (behind <= 0) continue;
    send_queries(lane, behind);
    due += behind;
  }
  return t - start;
}

int main(int argc, char **argv) {
  char line[128];
  double seconds, number;
  if (argc < 3) return 64;
  server.sin_port = htons(atoi(argv[1]));
  server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  is_spread = argc > 3 && !strcmp(argv[3], "spread");
  read_queries(argv[2]);
  open_lanes();
  setvbuf(stdout, NULL, _IOLBF, 0);
  puts("{\"kind\":\"ready\"}");
  while (fgets(line, sizeof line, stdin)) {
    count = (struct count){0};
    double took;
    if (sscanf(line, "closed %lf %lf", &seconds, &number) == 2) took = run_closed(seconds, number);
    else if (sscanf(line, "open %lf %lf", &seconds, &number) == 2) took = run_open(seconds, number);
    else return 64;
    finish();
    printf("{\"kind\":\"done\",\"seconds\":%.6f,\"sent\":%ld,\"answered\":%ld,\"lost\":%ld,\"wrong\":%ld,"
           "\"late\":%ld,\"cookies\":%ld}\n",
           took, count.sent, count.answered, count.lost, count.wrong, count.late, count.cookies);
  }
  return 0;
}
