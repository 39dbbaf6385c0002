/*
 * A connection without waiting, plain or TLS 1.3, and the one loop that watches them all.
 *
 * Promise: what is put is gathered and leaves in one write; nothing blocks; what a connection holds is
 * bounded (max_out) and given back by wire_close. It knows nothing of SMTP.
 */
#ifndef WIRE_H
#define WIRE_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>

struct wire {
  int fd;
  SSL *ssl;
  /* What still has to leave, from `sent` on. */
  char *out;
  size_t out_size, out_room, sent;
  /* Whether the loop tells when more may leave; whether TLS takes no more. */
  bool is_blocked, is_broken;
  /* What the loop names in its events. */
  void *owner;
};

/* Milliseconds of the machine's monotonic clock, the same as clock.ts's. */
double now_ms(void);

/* Ends the process. */
_Noreturn void die(const char *what);

/* For both ends alike: TLS 1.3, X25519 and nothing else, so that no system has a dearer handshake. */
SSL_CTX *make_tls(const SSL_METHOD *method);

void watch(int fd, void *owner);
/* As epoll_wait(2). */
int wait_events(struct epoll_event *events, int room, int timeout_ms);

/* Takes `fd`, which does not block. A wire that was closed may be opened again. */
void wire_open(struct wire *wire, int fd, void *owner);
void wire_start_tls(struct wire *wire, SSL_CTX *tls, bool is_server);
/* The client's side. 1: done, 0: goes on, -1: failed. */
int wire_handshake(struct wire *wire);
void wire_put(struct wire *wire, const char *text, size_t size);
/* False: the connection is of no more use. */
bool wire_flush(struct wire *wire);
/* So many octets; 0: nothing now, -1: the connection has ended. The server's handshake happens in here. */
long wire_read(struct wire *wire, char *room, size_t size);
/* Has the other side know that nothing more comes. */
void wire_put_end(struct wire *wire);
void wire_close(struct wire *wire);

#endif
