/*
 * paced: asks a DNS server so many questions a second, whatever comes back, and says how late each answer was.
 *
 *   paced PORT QUERIES      QUERIES: lines of "NAME TYPE RCODE"; TYPE A or TXT, RCODE 0 or 3
 *
 * Orders on standard input: "SECONDS RATE". A report for each, one line of JSON. Questions leave when they are
 * due, whether or not others are answered, so a server that stands still is charged for all that came meanwhile.
 * An answer's time is from there to the kernel's stamp of its arrival: that this program was itself late, with
 * a question or in looking, is not the server's; how late it was at most is in the report. It runs in real time
 * where it may. What has no answer 2 s after the last question is lost. Loopback only.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_QUERIES = 200000, QUERY_OCTETS = 128, ANSWER_OCTETS = 4096, IDS = 65536, MAX_ANSWERS = 4000000 };
static const double patience = 2.0;

struct query { unsigned char wire[QUERY_OCTETS]; short length; unsigned char rcode; };
static struct query queries[MAX_QUERIES];
static double sent_at[IDS];
static int asked[IDS];
static float ms[MAX_ANSWERS];

static double seconds_of(struct timespec t) { return (double)t.tv_sec + (double)t.tv_nsec * 1e-9; }

/* The clock of the kernel's stamps. */
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return seconds_of(t);
}

static int by_value(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static short encode(unsigned char *wire, const char *name, int type) {
  static const unsigned char head[12] = {0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0};
  memcpy(wire, head, 12);
  unsigned char *p = wire + 12;
  if (strlen(name) > QUERY_OCTETS - 18) return -1;
  while (*name) {
    size_t n = strcspn(name, ".");
    *p++ = (unsigned char)n;
    memcpy(p, name, n);
    p += n;
    name += n + (name[n] == '.');
  }
  const unsigned char tail[5] = {0, 0, (unsigned char)type, 0, 1};
  memcpy(p, tail, 5);
  return (short)(p + 5 - wire);
}

static int read_queries(const char *path) {
  FILE *file = fopen(path, "r");
  char name[256], type[8];
  int rcode, count = 0;
  if (!file) return 0;
  while (count < MAX_QUERIES && fscanf(file, "%255s %7s %d", name, type, &rcode) == 3) {
    struct query *q = &queries[count];
    q->length = encode(q->wire, name, strcmp(type, "TXT") == 0 ? 16 : 1);
    q->rcode = (unsigned char)rcode;
    if (q->length > 0) count++;
  }
  fclose(file);
  return count;
}

static double stamp_of(struct msghdr *message) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
    struct timespec t;
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS) continue;
    memcpy(&t, CMSG_DATA(c), sizeof t);
    return seconds_of(t);
  }
  return now();
}

/* Takes what has come. */
static void take(int fd, int *answered, int *wrong) {
  unsigned char answer[ANSWER_OCTETS];
  char control[64];
  for (;;) {
    struct iovec room = {answer, sizeof answer};
    struct msghdr message = {.msg_iov = &room, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);
    if (n < 12) {
      if (n < 0 && errno != EAGAIN && errno != ECONNREFUSED) perror("recvmsg");
      return;
    }
    int id = answer[0] << 8 | answer[1];
    if (asked[id] < 0) continue;
    const struct query *q = &queries[asked[id]];
    int has_answer = answer[7] != 0;
    if ((answer[3] & 15) != q->rcode || has_answer != (q->rcode == 0)) (*wrong)++;
    if (*answered < MAX_ANSWERS) ms[*answered] = (float)((stamp_of(&message) - sent_at[id]) * 1000);
    (*answered)++;
    asked[id] = -1;
  }
}

static void run(int fd, int count, double seconds, double rate) {
  int sent = 0, answered = 0, wrong = 0, unsent = 0;
  double start = now(), latest = 0;
  long total = (long)(seconds * rate);
  for (int id = 0; id < IDS; id++) asked[id] = -1;
  while (sent < total || (answered < sent && now() < start + seconds + patience)) {
    double due = start + sent / rate, time = now();
    if (sent < total && time >= due) {
      /* A prime step walks through the list in no order that the zone has. */
      int which = (int)((sent * 7919L) % count), id = sent & (IDS - 1);
      struct query *q = &queries[which];
      q->wire[0] = (unsigned char)(id >> 8);
      q->wire[1] = (unsigned char)id;
      asked[id] = which;
      if (time - due > latest) latest = time - due;
      sent_at[id] = now();
      if (send(fd, q->wire, (size_t)q->length, 0) < 0) unsent++;
      sent++;
    } else {
      double wait = sent < total ? due - time : 0.01;
      struct timespec t = {0, (long)(wait * 1e9)};
      struct pollfd p = {fd, POLLIN, 0};
      ppoll(&p, 1, &t, NULL);
    }
    take(fd, &answered, &wrong);
  }
  int known = answered < MAX_ANSWERS ? answered : MAX_ANSWERS;
  qsort(ms, (size_t)known, sizeof *ms, by_value);
  printf("{\"sent\":%d,\"answered\":%d,\"lost\":%d,\"unsent\":%d,\"wrong\":%d,\"p50Ms\":%.3f,\"p99Ms\":%.3f,"
         "\"p999Ms\":%.3f,\"worstMs\":%.3f,\"latestMs\":%.3f}\n",
         sent, answered, sent - answered, unsent, wrong, known ? (double)ms[known / 2] : 0,
         known ? (double)ms[(long)known * 99 / 100] : 0, known ? (double)ms[(long)known * 999 / 1000] : 0,
         known ? (double)ms[known - 1] : 0, latest * 1000);
  fflush(stdout);
}

int main(int argc, char **argv) {
  prctl(PR_SET_PDEATHSIG, 9);
  if (argc != 3) return 64;
  int count = read_queries(argv[2]), fd = socket(AF_INET, SOCK_DGRAM, 0), octets = 8 << 20, on = 1;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (count == 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) return 1;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets);
  setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
  struct sched_param first = {.sched_priority = 1};
  int real_time = sched_setscheduler(0, SCHED_FIFO, &first) == 0;
  printf("{\"queries\":%d,\"realTime\":%s}\n", count, real_time ? "true" : "false");
  fflush(stdout);
  double seconds, rate;
  while (scanf("%lf %lf", &seconds, &rate) == 2) run(fd, count, seconds, rate);
  return 0;
}
