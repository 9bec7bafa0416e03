// floor answers every DNS query over UDP with one fixed address, as fast as the kernel's
// sockets allow: what a server cannot get below with recvmmsg and sendmmsg.
//
//	floor ADDRESS PORT
//
// It parses no more than it must to place the answer behind the question, and ignores
// EDNS. One thread, one socket, batches of 64.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 64, SIZE = 1500, HEADER = 12 };

// The answer: a pointer to the question's name, A, IN, TTL 3600, 192.0.2.1.
static const unsigned char answer[] = {0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0x0e, 0x10, 0, 4, 192, 0, 2, 1};

static unsigned char buffer[BATCH][SIZE];
static struct iovec part[BATCH];
static struct sockaddr_in from[BATCH];
static struct mmsghdr in[BATCH], out[BATCH];

// respond makes a query of n octets its response in place and returns the new length, or
// 0 where p is no query with one question.
static size_t respond(unsigned char *p, size_t n) {
	if (n < HEADER || n > SIZE - sizeof answer || p[2] & 0x80 || p[4] != 0 || p[5] != 1)
		return 0;
	size_t at = HEADER;
	while (at < n && p[at] != 0) {
		if (p[at] > 63)
			return 0;
		at += p[at] + 1;
	}
	at += 5; // the root label, type and class
	if (at > n)
		return 0;
	p[2] |= 0x80; // QR; opcode and RD stay
	p[3] = 0x80;  // RA, NOERROR
	p[7] = 1;
	memset(p + 8, 0, 4);
	memcpy(p + at, answer, sizeof answer);
	return at + sizeof answer;
}

int main(int argc, char **argv) {
	struct sockaddr_in a = {.sin_family = AF_INET};
	if (argc != 3 || inet_pton(AF_INET, argv[1], &a.sin_addr) != 1) {
		fprintf(stderr, "usage: floor ADDRESS PORT\n");
		return 2;
	}
	a.sin_port = htons(atoi(argv[2]));
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) != 0) {
		perror("floor: bind");
		return 1;
	}
	for (int i = 0; i < BATCH; i++) {
		part[i].iov_base = buffer[i];
		in[i].msg_hdr.msg_iov = &part[i];
		in[i].msg_hdr.msg_iovlen = 1;
		in[i].msg_hdr.msg_name = &from[i];
	}
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			part[i].iov_len = SIZE;
			in[i].msg_hdr.msg_namelen = sizeof from[i];
		}
		int n = recvmmsg(s, in, BATCH, MSG_WAITFORONE, NULL);
		if (n < 0) {
			perror("floor: recvmmsg");
			return 1;
		}
		int m = 0;
		for (int i = 0; i < n; i++) {
			size_t size = respond(buffer[i], in[i].msg_len);
			if (size == 0)
				continue;
			part[i].iov_len = size;
			out[m++] = in[i];
		}
		for (int sent = 0; sent < m;) {
			int k = sendmmsg(s, out + sent, m - sent, 0);
			sent += k > 0 ? k : 1; // what cannot be sent is lost, as with any server
		}
	}
}
