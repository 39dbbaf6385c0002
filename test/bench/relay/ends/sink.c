/*
 * The destination of every system in table 1: takes mail over STARTTLS as cheaply as it can be taken.
 *
 * `sink KEY_FILE CERT_FILE` listens on a port of 127.0.0.1 and reports it. "expect MESSAGES KEEP" on standard
 * input begins a round; it says when it has begun. Reports are lines of JSON on standard output. It ends with its standard input.
 *
 * Promise: it counts each message that it answered with 250 and keeps the first few of a round whole, to the
 * final dot. It looks for the end of a message and at nothing else in it. A system may keep its connections
 * or close them, within messages too; above max_conversations it closes new ones at once.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

enum { max_conversations = 1000, max_kept = 16, no_slot = -1 };
/* As announced. */
static const size_t max_message = 50000000;

struct conversation {
  struct wire wire;
  /* How many octets of a command came, and the first four. */
  size_t line_size;
  char verb[4];
  bool is_in_message, is_leaving;
  /* How many octets of CRLF . CRLF were last. */
  int matched;
  /* Where this message is kept, in the round in which it began. */
  int slot, round;
};

struct kept {
  char *text;
  size_t size, room;
  bool is_taken, is_whole;
};

static SSL_CTX *tls;
static int listener, conversations;
static int wanted, seen, keep, round_number;
static struct kept kept[max_kept];

/* Messages that are kept. */

static struct kept *kept_of(struct conversation *one) {
  return one->slot != no_slot && one->round == round_number ? &kept[one->slot] : NULL;
}

static void take_slot(struct conversation *one) {
  one->slot = no_slot;
  one->round = round_number;
  for (int i = 0; i < keep && one->slot == no_slot; i++) {
    if (!kept[i].is_taken) one->slot = i;
  }
  if (one->slot != no_slot) kept[one->slot].is_taken = true;
}

static void keep_octets(struct kept *message, const char *octets, size_t size) {
  size_t needed = message->size + size;
  if (needed > message->room) {
    if (needed > max_message) die("a message above the announced size");
    message->room = needed * 2;
    message->text = realloc(message->text, message->room);
    if (!message->text) die("memory");
  }
  memcpy(message->text + message->size, octets, size);
  message->size = needed;
}

/* Of a message that did not come to its end. */
static void give_slot_back(struct conversation *one) {
  struct kept *message = kept_of(one);
  if (message && !message->is_whole) message->is_taken = false, message->size = 0;
}

static void print_kept(void) {
  const char *comma = "";
  for (int i = 0; i < keep; i++) {
    if (!kept[i].is_whole) continue;
    unsigned char *base64 = malloc(kept[i].size / 3 * 4 + 5);
    if (!base64) die("memory");
    EVP_EncodeBlock(base64, (unsigned char *)kept[i].text, kept[i].size);
    printf("%s\"%s\"", comma, base64);
    free(base64);
    comma = ",";
  }
}

/* Rounds. */

static void expect(int messages, int keep_these) {
  for (int i = 0; i < max_kept; i++) {
    free(kept[i].text);
    kept[i] = (struct kept){0};
  }
  wanted = messages;
  keep = keep_these < max_kept ? keep_these : max_kept;
  seen = 0;
  round_number++;
  printf("{\"kind\":\"counting\"}\n");
  fflush(stdout);
}

static void count_one(void) {
  seen++;
  if (seen == wanted) {
    printf("{\"kind\":\"complete\",\"at\":%.3f,\"kept\":[", now_ms());
    print_kept();
    printf("]}\n");
  }
  if (seen == wanted + 1) printf("{\"kind\":\"too-many\",\"messages\":%d}\n", seen);
  fflush(stdout);
}

static void read_order(void) {
  static char text[256];
  static size_t size;
  ssize_t got = read(0, text + size, sizeof text - 1 - size);
  if (got <= 0) exit(0);
  text[size += got] = 0;
  for (char *end; (end = strchr(text, '\n')); size = strlen(text)) {
    int messages, keep_these;
    if (sscanf(text, "expect %d %d", &messages, &keep_these) != 2) die("an order that is none");
    expect(messages, keep_these);
    memmove(text, end + 1, strlen(end));
  }
}

/* A conversation. */

static void say(struct conversation *one, const char *text) { wire_put(&one->wire, text, strlen(text)); }

static void end_conversation(struct conversation *one) {
  if (one->is_in_message) give_slot_back(one);
  wire_close(&one->wire);
  free(one);
  conversations--;
}

/* Returns how many octets of the chunk belong to the message. */
static size_t read_message(struct conversation *one, const char *chunk, size_t size) {
  static const char end[] = "\r\n.\r\n";
  size_t at = 0;
  while (at < size && one->matched < 5) {
    if (one->matched == 0) {
      const char *next = memchr(chunk + at, '\r', size - at);
      if (!next) return size;
      at = next - chunk;
    }
    char octet = chunk[at++];
    // The only octet with which the end can begin anew is its first.
    one->matched = octet == end[one->matched] ? one->matched + 1 : octet == '\r';
  }
  return at;
}

static size_t take_message(struct conversation *one, const char *chunk, size_t size) {
  size_t used = read_message(one, chunk, size);
  struct kept *message = kept_of(one);
  if (message) keep_octets(message, chunk, used);
  if (one->matched < 5) return used;
  one->is_in_message = false;
  if (message) message->is_whole = true;
  say(one, "250 2.0.0 taken\r\n");
  // The answer leaves before the last report of a round is made.
  wire_flush(&one->wire);
  count_one();
  return used;
}

static void answer(struct conversation *one) {
  if (!strncasecmp(one->verb, "EHLO", 4)) {
    say(one, "250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n");
    say(one, one->wire.ssl ? "250 SIZE 50000000\r\n" : "250-STARTTLS\r\n250 SIZE 50000000\r\n");
  } else if (!strncasecmp(one->verb, "STAR", 4) && !one->wire.ssl) {
    say(one, "220 2.0.0 go on\r\n");
    wire_start_tls(&one->wire, tls, true);
  } else if (!strncasecmp(one->verb, "DATA", 4)) {
    say(one, "354 go on\r\n");
    one->is_in_message = true;
    // The line end before the final dot may be that of DATA itself.
    one->matched = 2;
    take_slot(one);
  } else if (!strncasecmp(one->verb, "AUTH", 4)) {
    // Never offered: for load.c, when it tries itself.
    say(one, "235 2.7.0 whoever you are\r\n");
  } else if (!strncasecmp(one->verb, "QUIT", 4)) {
    say(one, "221 2.0.0 bye\r\n");
    wire_put_end(&one->wire);
    one->is_leaving = true;
  } else {
    say(one, "250 2.0.0 ok\r\n");
  }
}

/* Returns how many octets it took: to the end of the first command, or all. */
static size_t take_command(struct conversation *one, const char *chunk, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (one->line_size < sizeof one->verb) one->verb[one->line_size] = chunk[i];
    one->line_size++;
    if (chunk[i] != '\n') continue;
    answer(one);
    one->line_size = 0;
    memset(one->verb, 0, sizeof one->verb);
    return i + 1;
  }
  return size;
}

static void take_chunk(struct conversation *one, const char *chunk, size_t size) {
  bool was_tls = one->wire.ssl != NULL;
  for (size_t at = 0; at < size && !one->is_leaving;) {
    const char *rest = chunk + at;
    at += one->is_in_message ? take_message(one, rest, size - at) : take_command(one, rest, size - at);
    // RFC 3207 §4.2: what came in the clear before TLS is forgotten.
    if (!was_tls && one->wire.ssl) return;
  }
}

static void converse(struct conversation *one) {
  static char chunk[64 << 10];
  long got = 0;
  while (!one->is_leaving && (got = wire_read(&one->wire, chunk, sizeof chunk)) > 0) {
    take_chunk(one, chunk, got);
  }
  bool is_alive = wire_flush(&one->wire) && got >= 0;
  if (!is_alive || (one->is_leaving && one->wire.out_size == 0)) end_conversation(one);
}

static void welcome(void) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  struct conversation *one = conversations < max_conversations ? calloc(1, sizeof *one) : NULL;
  if (!one) {
    close(fd);
    return;
  }
  conversations++;
  one->slot = no_slot;
  wire_open(&one->wire, fd, one);
  say(one, "220 sink ESMTP\r\n");
  converse(one);
}

static void start_listening(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 1024) < 0) die("listen");
  getsockname(listener, (struct sockaddr *)&address, &size);
  printf("{\"kind\":\"listening\",\"port\":%d}\n", ntohs(address.sin_port));
  fflush(stdout);
}

int main(int count, char **words) {
  if (count != 3) die("usage: sink KEY_FILE CERT_FILE");
  tls = make_tls(TLS_server_method());
  if (SSL_CTX_use_certificate_chain_file(tls, words[2]) != 1 ||
      SSL_CTX_use_PrivateKey_file(tls, words[1], SSL_FILETYPE_PEM) != 1)
    die("certificate");
  // First, so that a round that was begun is known before its messages are.
  watch(0, &wanted);
  start_listening();
  watch(listener, &listener);
  struct epoll_event events[64];
  for (;;) {
    int came = wait_events(events, 64, -1);
    for (int i = 0; i < came; i++) {
      void *owner = events[i].data.ptr;
      if (owner == &listener) welcome();
      else if (owner == &wanted) read_order();
      else converse(owner);
    }
  }
}
