// gen sends DNS queries over UDP with sendmmsg, counts what comes back, and prints one
// line of JSON.
//
//	gen -s ADDRESS -p PORT -d FILE [-c SOCKETS] [-w WINDOW | -r RATE] [-n COUNT]
//	    [-l SECONDS] [-t TIMEOUT_MS] [-e] [-u SEED]
//
// FILE has a name and a type a line, as dnsperf reads it; names are taken in turn. With a
// window, WINDOW queries are kept under way and the server is never waited for longer than
// that; with a rate, queries leave at even distances whatever comes back. It ends after
// COUNT queries or SECONDS, whichever is first, and waits TIMEOUT_MS for the last answers.
// -e adds EDNS with 1232 octets; -u puts a label that was never used before each name.
//
// An answer counts if socket, id and question are those of a query under way. Latency is
// from before sendmmsg to after recvmmsg, in a histogram of 64 steps to each power of two.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SOCKETS = 64, BATCH = 64, SIZE = 1500, HEADER = 12, LABEL = 13, STEPS = 64, POWERS = 40 };

// A query of the file: the question section on the wire.
struct query {
	uint8_t *wire;
	size_t size;
};

// What is under way in one socket: ids go round, so [tail, head) is what was sent last,
// and an entry with no time has been answered.
struct flow {
	int fd;
	uint64_t tail, head, busy; // busy: sent and neither answered nor lost
	int64_t sent[65536];     // when, in ns; 0: nothing under way
	uint64_t number[65536];  // which query of the run
};

static struct query *queries;
static size_t nqueries;
static struct flow *flows[SOCKETS];

static struct in_addr address;
static int port = 53, sockets = 8, edns = 0;
static uint64_t window = 0, rate = 0, count = UINT64_MAX, unique = 0;
static int64_t duration = 10000000000, timeout = 1000000000;
static const char *file;

static uint64_t sent, answered, skipped, strange, truncated, empty, rcodes[16];
static uint64_t steps[POWERS * STEPS];
static int64_t slowest;

static uint8_t buffer[BATCH][SIZE];
static struct iovec part[BATCH];
static struct mmsghdr messages[BATCH];

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what) {
	fprintf(stderr, "gen: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void usage(void) {
	fprintf(stderr, "usage: gen -s ADDRESS -p PORT -d FILE [-c SOCKETS] [-w WINDOW | -r RATE] [-n COUNT] "
	                "[-l SECONDS] [-t TIMEOUT_MS] [-e] [-u SEED]\n");
	exit(2);
}

// --- the query file

static int type_number(const char *s) {
	static const struct { const char *name; int number; } types[] = {
		{"A", 1}, {"NS", 2}, {"CNAME", 5}, {"SOA", 6}, {"PTR", 12}, {"MX", 15}, {"TXT", 16}, {"AAAA", 28}, {"SRV", 33},
	};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (strcmp(s, types[i].name) == 0)
			return types[i].number;
	fprintf(stderr, "gen: type %s is not known\n", s);
	exit(1);
}

// encode turns a name without escapes and a type into a question section.
static struct query encode(const char *name, int type) {
	size_t n = strlen(name);
	if (n > 0 && name[n - 1] == '.')
		n--;
	if (n == 0 || n > 200) {
		fprintf(stderr, "gen: name %s is too long or too short\n", name);
		exit(1);
	}
	uint8_t *w = malloc(n + 6), *length = w;
	if (w == NULL)
		die("malloc");
	*length = 0;
	for (size_t i = 0; i < n; i++) {
		if (name[i] == '.') {
			length = w + i + 1;
			*length = 0;
			continue;
		}
		w[i + 1] = name[i];
		if (++*length > 63) {
			fprintf(stderr, "gen: a label of %s is too long\n", name);
			exit(1);
		}
	}
	uint8_t end[] = {0, type >> 8, type & 255, 0, 1};
	memcpy(w + n + 1, end, sizeof end);
	return (struct query){w, n + 1 + sizeof end};
}

static void read_queries(void) {
	FILE *f = fopen(file, "r");
	if (f == NULL)
		die(file);
	char name[256], type[16];
	size_t room = 0;
	while (fscanf(f, "%255s %15s", name, type) == 2) {
		if (nqueries == room) {
			room = room ? 2 * room : 1024;
			queries = realloc(queries, room * sizeof *queries);
			if (queries == NULL)
				die("realloc");
		}
		queries[nqueries++] = encode(name, type_number(type));
	}
	fclose(f);
	if (nqueries == 0) {
		fprintf(stderr, "gen: no query in %s\n", file);
		exit(1);
	}
}

// --- sending and receiving

// label writes the one-time label of a query: 12 letters, in no order.
static void label(uint8_t *p, uint64_t number) {
	uint64_t x = number + unique * 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	x ^= x >> 31;
	*p++ = LABEL - 1;
	for (int i = 0; i < LABEL - 1; i++, x >>= 5)
		*p++ = "abcdefghijklmnopqrstuvwxyz234567"[x & 31];
}

static size_t build(uint8_t *p, uint16_t id, uint64_t number) {
	const struct query *q = &queries[number % nqueries];
	uint8_t head[HEADER] = {id >> 8, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns};
	uint8_t *at = p;
	memcpy(at, head, HEADER);
	at += HEADER;
	if (unique) {
		label(at, number);
		at += LABEL;
	}
	memcpy(at, q->wire, q->size);
	at += q->size;
	if (edns) {
		static const uint8_t opt[] = {0, 0, 41, 1232 >> 8, 1232 & 255, 0, 0, 0, 0, 0, 0};
		memcpy(at, opt, sizeof opt);
		at += sizeof opt;
	}
	return at - p;
}

// expire gives up what waited too long and moves the tail on.
static void expire(struct flow *f, int64_t t) {
	for (; f->tail < f->head; f->tail++) {
		int64_t *s = &f->sent[f->tail & 65535];
		if (*s == 0)
			continue;
		if (t - *s < timeout)
			return;
		*s = 0;
		f->busy--;
	}
}

static uint64_t under_way(void) {
	uint64_t all = 0;
	for (int i = 0; i < sockets; i++)
		all += flows[i]->busy;
	return all;
}

// transmit sends up to n queries and returns how many the kernel took.
static unsigned transmit(struct flow *f, unsigned n) {
	if (f->head - f->tail > 32768)
		expire(f, now());
	uint64_t free = 65535 - (f->head - f->tail);
	if (n > free)
		n = free;
	if (n > BATCH)
		n = BATCH;
	if (n == 0)
		return 0;
	for (unsigned i = 0; i < n; i++)
		part[i].iov_len = build(buffer[i], f->head + i, sent + i);
	int64_t t = now();
	int k = sendmmsg(f->fd, messages, n, MSG_DONTWAIT);
	if (k < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED && errno != ENOBUFS)
			die("sendmmsg");
		return 0;
	}
	for (int i = 0; i < k; i++) {
		f->number[f->head & 65535] = sent++;
		f->sent[f->head++ & 65535] = t;
	}
	f->busy += k;
	return k;
}

static void note(int64_t ns) {
	if (ns > slowest)
		slowest = ns;
	uint64_t v = ns < STEPS ? STEPS : ns;
	int power = 63 - __builtin_clzll(v);
	size_t i = (size_t)(power - 6) * STEPS + (v >> (power - 6)) - STEPS;
	steps[i < POWERS * STEPS ? i : POWERS * STEPS - 1]++;
}

static void take(struct flow *f, const uint8_t *p, size_t n, int64_t t) {
	if (n < HEADER || !(p[2] & 0x80)) {
		strange++;
		return;
	}
	uint16_t id = p[0] << 8 | p[1];
	const struct query *q = &queries[f->number[id] % nqueries];
	size_t at = HEADER + (unique ? LABEL : 0);
	if (f->sent[id] == 0 || n < at + q->size || memcmp(p + at, q->wire, q->size) != 0) {
		strange++;
		return;
	}
	note(t - f->sent[id]);
	f->sent[id] = 0;
	f->busy--;
	answered++;
	rcodes[p[3] & 15]++;
	if (p[2] & 2)
		truncated++;
	else if ((p[3] & 15) == 0 && p[6] == 0 && p[7] == 0)
		empty++;
}

// collect takes everything that has come and returns how many packets that were.
static unsigned collect(struct flow *f) {
	unsigned all = 0;
	for (;;) {
		for (int i = 0; i < BATCH; i++)
			part[i].iov_len = SIZE;
		int k = recvmmsg(f->fd, messages, BATCH, MSG_DONTWAIT, NULL);
		if (k <= 0)
			return all;
		int64_t t = now();
		for (int i = 0; i < k; i++)
			take(f, buffer[i], messages[i].msg_len, t);
		all += k;
		if (k < BATCH)
			return all;
	}
}

static void await(int64_t ns) {
	struct pollfd p[SOCKETS];
	for (int i = 0; i < sockets; i++)
		p[i] = (struct pollfd){flows[i]->fd, POLLIN, 0};
	struct timespec t = {ns / 1000000000, ns % 1000000000};
	ppoll(p, sockets, &t, NULL);
}

// fill keeps the window full, evenly over the sockets.
static unsigned fill(void) {
	unsigned all = 0;
	uint64_t share = window / sockets;
	for (int i = 0; i < sockets && sent < count; i++) {
		struct flow *f = flows[i];
		if (f->busy < share) {
			uint64_t n = share - f->busy;
			all += transmit(f, n < count - sent ? n : count - sent);
		}
	}
	return all;
}

// pace sends what is due, a batch at most, and returns the ns until the next query is; 0
// while it is behind, so that answers are taken in between. What it was held up for longer
// than a millisecond is skipped: a burst would only fill the server's buffer.
static int64_t pace(int64_t start) {
	static int turn;
	for (int burst = 0; burst < BATCH / 8; burst++) {
		int64_t t = now() - start;
		uint64_t due = (uint64_t)((double)t * rate / 1e9) + 1 - skipped;
		uint64_t most = sent + rate / 1000 + 8;
		if (due > most) {
			skipped += due - most;
			due = most;
		}
		if (due > count)
			due = count;
		if (sent >= due) {
			int64_t next = (int64_t)((double)(sent + skipped) * 1e9 / rate) - t;
			return next < 1000 ? 1000 : next;
		}
		struct flow *f = flows[turn++ % sockets];
		// A generator that was held up does not pour everything into one socket.
		uint64_t n = due - sent;
		if (transmit(f, n > 8 ? 8 : n) == 0)
			return 100000;
	}
	return 0;
}

static void run(void) {
	int64_t start = now(), last = start, swept = start;
	while (sent < count && last - start < duration) {
		unsigned moved = 0;
		int64_t wait = 10000000;
		if (rate)
			wait = pace(start);
		else
			moved += fill();
		for (int i = 0; i < sockets; i++)
			moved += collect(flows[i]);
		last = now();
		if (moved == 0 && wait > 0)
			await(wait);
		if (last - swept > 10000000) {
			for (int i = 0; i < sockets; i++)
				expire(flows[i], last);
			swept = last;
		}
	}
	for (int64_t end = last + timeout; under_way() > 0 && now() < end;) {
		await(1000000);
		for (int i = 0; i < sockets; i++)
			collect(flows[i]);
	}
	double seconds = (last - start) / 1e9;
	printf("{\"sent\":%llu,\"answered\":%llu,\"lost\":%llu,\"skipped\":%llu,\"strange\":%llu,\"truncated\":%llu,"
	       "\"empty\":%llu,\"seconds\":%.6f",
	       (unsigned long long)sent, (unsigned long long)answered, (unsigned long long)(sent - answered),
	       (unsigned long long)skipped, (unsigned long long)strange, (unsigned long long)truncated, (unsigned long long)empty, seconds);
}

// --- the outcome

// quantile is the upper end of the step that holds it, in ns.
static int64_t quantile(double q) {
	uint64_t rank = (uint64_t)(q * answered), seen = 0;
	for (size_t i = 0; i < POWERS * STEPS; i++) {
		seen += steps[i];
		if (seen > rank) {
			int64_t v = (int64_t)(i % STEPS + STEPS + 1) << (i / STEPS);
			return v < slowest ? v : slowest;
		}
	}
	return slowest;
}

static void report(void) {
	printf(",\"p50_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,\"max_us\":%.2f,\"rcodes\":{",
	       quantile(0.5) / 1e3, quantile(0.99) / 1e3, quantile(0.999) / 1e3, slowest / 1e3);
	const char *comma = "";
	for (int i = 0; i < 16; i++)
		if (rcodes[i]) {
			printf("%s\"%d\":%llu", comma, i, (unsigned long long)rcodes[i]);
			comma = ",";
		}
	printf("}}\n");
}

static void open_sockets(void) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = address};
	for (int i = 0; i < sockets; i++) {
		struct flow *f = flows[i] = calloc(1, sizeof *f);
		if (f == NULL)
			die("calloc");
		f->fd = socket(AF_INET, SOCK_DGRAM, 0);
		if (f->fd < 0 || connect(f->fd, (struct sockaddr *)&a, sizeof a) != 0)
			die("connect");
		int size = 4 << 20; // an answer that has come must not be lost here
		if (setsockopt(f->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
			setsockopt(f->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	}
	for (int i = 0; i < BATCH; i++) {
		part[i].iov_base = buffer[i];
		messages[i].msg_hdr.msg_iov = &part[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
}

int main(int argc, char **argv) {
	int seen = 0;
	for (int o; (o = getopt(argc, argv, "s:p:d:c:w:r:n:l:t:eu:")) != -1;) {
		switch (o) {
		case 's': seen = inet_pton(AF_INET, optarg, &address) == 1; break;
		case 'p': port = atoi(optarg); break;
		case 'd': file = optarg; break;
		case 'c': sockets = atoi(optarg); break;
		case 'w': window = strtoull(optarg, NULL, 10); break;
		case 'r': rate = strtoull(optarg, NULL, 10); break;
		case 'n': count = strtoull(optarg, NULL, 10); break;
		case 'l': duration = (int64_t)(strtod(optarg, NULL) * 1e9); break;
		case 't': timeout = (int64_t)(strtod(optarg, NULL) * 1e6); break;
		case 'e': edns = 1; break;
		case 'u': unique = strtoull(optarg, NULL, 10); break;
		default: usage();
		}
	}
	if (!seen || file == NULL || sockets < 1 || sockets > SOCKETS || (window != 0) == (rate != 0) ||
	    (window && window < (uint64_t)sockets) || window / sockets > 60000 || duration <= 0 || timeout <= 0)
		usage();
	prctl(PR_SET_TIMERSLACK, 1); // a pace of microseconds needs it
	read_queries();
	open_sockets();
	run();
	report();
	return 0;
}
