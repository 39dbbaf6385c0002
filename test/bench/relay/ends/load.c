/*
 * The load of table 1: sessions with STARTTLS and AUTH PLAIN that submit messages made beforehand.
 *
 * One line on standard input is the order: "PORT SESSIONS MESSAGES BYTES REUSE PER_SECOND FROM TO USER PASS".
 * One line of JSON on standard output is the report; it ends with its standard input.
 *
 * Promise: each reply's code is looked at, and one that is not what was wanted fails the whole. Closed loop
 * (PER_SECOND 0): each session sends its next message when the last was answered; without REUSE each message
 * has a connection, a full handshake (nothing is resumed) and a login. Open loop: a message is due at its
 * time, whatever became of those before it, and more sessions are opened when all are busy, up to
 * max_sessions. Certificates are not verified.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

enum { max_sessions = 1000, max_messages = 1000000, max_bytes = 50000000, header_room = 2048 };

/* What a session waits for. */
enum step { greeting, plain_ehlo, starttls, handshake, ehlo, auth, mail, rcpt, data, final_dot, quit, gone };
static const int code_of[] = {220, 250, 220, 0, 250, 235, 250, 250, 354, 250, 221, 0};

struct session {
  struct wire wire;
  enum step step;
  /* An unfinished line of a reply. */
  char line[1024];
  size_t line_size;
  bool has_pipelining;
  /* A message waits until it is logged in. */
  bool is_owed;
  double began;
};

static struct {
  int port, sessions, messages, bytes, reuse;
  double per_second;
  char from[256], to[256], user[256], pass[256];
} order;

static SSL_CTX *tls;
static struct session sessions[max_sessions];
static int opened, closed, begun, accepted;
static struct session *idle[max_sessions];
static int idle_count;
static double *latencies, started_at, due_from;
static char envelope[1024], login[1024];
/* The body lies behind room for a header, with the final dot. */
static char *body;
static size_t body_size;

/* Reports. */

_Noreturn static void until_input_ends(void) {
  char octet;
  fflush(stdout);
  while (read(0, &octet, 1) > 0) continue;
  exit(0);
}

_Noreturn static void fail(const char *form, ...) {
  char reason[2048];
  va_list words;
  va_start(words, form);
  vsnprintf(reason, sizeof reason, form, words);
  va_end(words);
  for (char *c = reason; *c; c++) {
    if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\') *c = '?';
  }
  printf("{\"kind\":\"failed\",\"reason\":\"%s\"}\n", reason);
  until_input_ends();
}

_Noreturn static void report(void) {
  printf("{\"kind\":\"done\",\"startedAt\":%.3f,\"endedAt\":%.3f,", started_at, now_ms());
  printf("\"accepted\":%d,\"latenciesMs\":[", accepted);
  for (int i = 0; i < accepted; i++) printf("%s%.3f", i ? "," : "", latencies[i]);
  printf("]}\n");
  until_input_ends();
}

/* What is sent. */

/* Lines of words, and the final dot. */
static void make_body(void) {
  static const char line[] = "All that is gold does not glitter, not all those who wander are lost.\r\n";
  char *room = malloc(header_room + order.bytes + 8);
  if (!room) die("memory");
  body = room + header_room;
  size_t size = order.bytes - 2;
  for (size_t i = 0; i < size; i++) body[i] = line[i % (sizeof line - 1)];
  while (body[size - 1] == '\r' || body[size - 1] == '\n') size--;
  memcpy(body + size, "\r\n.\r\n", 5);
  body_size = size + 5;
}

static void make_commands(void) {
  char plain[520];
  unsigned char base64[800];
  int size = snprintf(plain, sizeof plain, "%c%s%c%s", 0, order.user, 0, order.pass);
  EVP_EncodeBlock(base64, (unsigned char *)plain, size);
  snprintf(login, sizeof login, "AUTH PLAIN %s\r\n", base64);
  snprintf(envelope, sizeof envelope, "MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n", order.from, order.to);
}

static void say(struct session *one, const char *text, enum step next) {
  wire_put(&one->wire, text, strlen(text));
  one->step = next;
}

/* The header is written before the body, where they leave as one. */
static void put_message(struct session *one) {
  static int made;
  char header[header_room];
  made++;
  int size = snprintf(header, sizeof header,
                      "From: Bench <%s>\r\nTo: <%s>\r\nSubject: message %d\r\n"
                      "Date: Fri, 20 Nov 2026 12:00:00 +0000\r\nMessage-ID: <%d.%d@bench.test>\r\n"
                      "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
                      order.from, order.to, made, made, getpid());
  memcpy(body - size, header, size);
  one->began = now_ms();
  wire_put(&one->wire, body - size, size + body_size);
  one->step = final_dot;
}

/* Sessions. */

static void connect_session(struct session *one) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(order.port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket: %s", strerror(errno));
  if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
    fail("connect: %s", strerror(errno));
  *one = (struct session){.step = greeting};
  wire_open(&one->wire, fd, one);
}

static void open_session(bool is_owed) {
  if (opened == max_sessions) fail("more than %d sessions are busy", max_sessions);
  struct session *one = &sessions[opened++];
  connect_session(one);
  one->is_owed = is_owed;
}

static void submit(struct session *one) {
  one->is_owed = false;
  say(one, envelope, mail);
}

static void leave(struct session *one) { say(one, "QUIT\r\n", quit); }

/* Closed loop: whether there is one more to send. */
static bool take_one(void) {
  if (begun == order.messages) return false;
  begun++;
  return true;
}

/* Logged in, and its last message answered. */
static void go_on(struct session *one) {
  if (one->is_owed) submit(one);
  else if (order.per_second) idle[idle_count++] = one;
  else if (order.reuse && take_one()) submit(one);
  else leave(one);
}

static void left(struct session *one) {
  wire_close(&one->wire);
  if (!order.per_second && !order.reuse && take_one()) {
    connect_session(one);
    one->is_owed = true;
  } else if (++closed == opened) {
    report();
  }
}

static void upgrade(struct session *one) {
  if (!wire_flush(&one->wire)) fail("the connection ended before TLS");
  wire_start_tls(&one->wire, tls, false);
  one->step = handshake;
}

static void count(struct session *one) {
  latencies[accepted++] = now_ms() - one->began;
  go_on(one);
}

/* What follows the reply that was wanted. */
static void advance(struct session *one) {
  switch (one->step) {
    case greeting: return say(one, "EHLO client.bench.test\r\n", plain_ehlo);
    case plain_ehlo: return say(one, "STARTTLS\r\n", starttls);
    case starttls: return upgrade(one);
    case handshake: return say(one, "EHLO client.bench.test\r\n", ehlo);
    case ehlo:
      if (!one->has_pipelining) fail("PIPELINING is not offered");
      return say(one, login, auth);
    case auth: return go_on(one);
    case mail: one->step = rcpt; return;
    case rcpt: one->step = data; return;
    case data: return put_message(one);
    case final_dot: return count(one);
    case quit: one->step = gone; return;
    case gone: return;
  }
}

static void read_line(struct session *one) {
  char *line = one->line;
  if (one->step == ehlo && !strcmp(line + 4, "PIPELINING")) one->has_pipelining = true;
  if (line[3] == '-') return;
  if (atoi(line) != code_of[one->step]) fail("wanted %d, got: %s", code_of[one->step], line);
  advance(one);
}

static void read_octet(struct session *one, char octet) {
  if (one->line_size == sizeof one->line) fail("a reply of more than %zu octets", sizeof one->line);
  one->line[one->line_size++] = octet;
  if (octet != '\n') return;
  if (one->line_size < 5) fail("a reply of %zu octets", one->line_size);
  one->line[one->line_size - (one->line[one->line_size - 2] == '\r' ? 2 : 1)] = 0;
  one->line_size = 0;
  read_line(one);
}

/* Returns whether replies may follow. */
static bool shake_hands(struct session *one) {
  int result = wire_handshake(&one->wire);
  if (result < 0) fail("the TLS handshake failed");
  if (result == 1) advance(one);
  return result == 1;
}

static void serve(struct session *one) {
  static char chunk[16 << 10];
  while (one->step != handshake || shake_hands(one)) {
    long got = wire_read(&one->wire, chunk, sizeof chunk);
    if (got < 0) fail("the connection ended after: %s", one->line);
    if (got == 0) break;
    for (long i = 0; i < got; i++) read_octet(one, chunk[i]);
    if (one->step == gone) return left(one);
  }
  if (!wire_flush(&one->wire)) fail("the connection ended after: %s", one->line);
}

/* The loops. */

static void begin(struct session *one) {
  submit(one);
  if (!wire_flush(&one->wire)) fail("the connection ended while idle");
}

static void end_all(void) {
  while (idle_count > 0) {
    struct session *one = idle[--idle_count];
    leave(one);
    if (!wire_flush(&one->wire)) fail("the connection ended while idle");
  }
}

/* Open loop. Returns the milliseconds until the next message is due; -1: none is. */
static int begin_due(void) {
  if (due_from == 0 && idle_count < order.sessions) return -1;
  if (due_from == 0) due_from = now_ms();
  double due = (now_ms() - due_from) * order.per_second / 1e3 + 1;
  for (; begun < order.messages && begun + 1 <= due; begun++) {
    if (idle_count > 0) begin(idle[--idle_count]);
    else open_session(true);
  }
  if (accepted == order.messages) end_all();
  if (begun == order.messages) return -1;
  double left_ms = due_from + begun / order.per_second * 1e3 - now_ms();
  return left_ms > 0 ? (int)left_ms + 1 : 0;
}

static void read_order(void) {
  char line[2048];
  if (!fgets(line, sizeof line, stdin)) exit(0);
  int found = sscanf(line, "%d %d %d %d %d %lf %255s %255s %255s %255s", &order.port, &order.sessions,
                     &order.messages, &order.bytes, &order.reuse, &order.per_second, order.from, order.to,
                     order.user, order.pass);
  if (found != 10) fail("an order with %d words that fit", found);
  if (order.sessions < 1 || order.sessions > max_sessions || order.messages < 1 ||
      order.messages > max_messages || order.bytes < 100 || order.bytes > max_bytes)
    fail("an order out of bounds");
}

int main(void) {
  read_order();
  tls = make_tls(TLS_client_method());
  latencies = malloc(order.messages * sizeof *latencies);
  if (!latencies) die("memory");
  make_body();
  make_commands();
  watch(0, NULL);
  started_at = now_ms();
  bool is_open_loop = order.per_second > 0;
  while (opened < order.sessions && (is_open_loop || take_one())) open_session(!is_open_loop);
  struct epoll_event events[64];
  for (;;) {
    int came = wait_events(events, 64, is_open_loop ? begin_due() : -1);
    for (int i = 0; i < came; i++) {
      struct session *one = events[i].data.ptr;
      if (!one) exit(0);
      serve(one);
    }
  }
}
