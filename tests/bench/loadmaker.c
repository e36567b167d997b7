// SPDX-License-Identifier: GPL-3.0-or-later
// Makes connections through the active node faster than any pair of hosts could: it plays client and
// server at once, one AF_PACKET socket in the namespace of each, and sends every packet of a connection in
// order. The hosts drop what arrives (load.py tells them to), so nothing else costs anything.
// Started by load.py alone; see docs/decisions for why this is not Python. Prints one JSON object.
//
//   loadmaker KIND COUNT FIRST RATE SERVER_NETNS CLIENT_IP SERVER_IP SHARED_IP CLIENT_GW_MAC SERVER_GW_MAC
//
// KIND is udp (one packet each way), open (TCP, established and left so), tcp (established and closed at once) or
// lasting (closed one second later, when RATE more were made). RATE is connections per second, 0 for as fast as it goes. Connection number N has client port
// 1024 + N % 60000 and server port 20000 + N / 60000, at most 100 server ports.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, PORTS = 60000, FIRST_PORT = 1024, FIRST_SERVICE = 20000, SERVICES = 100 };
enum { SYN = 2, ACK = 16, FIN = 1 };

struct frame {
    struct ether_header ether;
    struct iphdr ip;
    union {
        struct udphdr udp;
        struct tcphdr tcp;
    };
} __attribute__((packed));

struct side {
    int socket;
    unsigned char own[6], gateway[6];
    uint32_t source, target;
};

static long errors;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint32_t sum(const void *data, size_t length, uint32_t total)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i + 1 < length; i += 2)
        total += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    return total;
}

static uint16_t folded(uint32_t total)
{
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return htons(~total & 0xffff);
}

static void parse_mac(const char *text, unsigned char *mac)
{
    if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6)
        fail("a hardware address was expected");
}

static void open_side(struct side *side, const char *source, const char *target, const char *gateway)
{
    struct sockaddr_ll place = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("eth0")};
    socklen_t length = sizeof place;
    int one = 1;
    side->socket = socket(AF_PACKET, SOCK_RAW, 0);
    if (side->socket < 0 || bind(side->socket, (struct sockaddr *)&place, sizeof place) < 0)
        fail("eth0");
    if (getsockname(side->socket, (struct sockaddr *)&place, &length) < 0)
        fail("getsockname");
    setsockopt(side->socket, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
    memcpy(side->own, place.sll_addr, 6);
    parse_mac(gateway, side->gateway);
    side->source = inet_addr(source);
    side->target = inet_addr(target);
}

static size_t build(struct frame *f, const struct side *side, int tcp, uint16_t from, uint16_t to,
                    uint32_t seq, uint32_t ack, uint8_t flags)
{
    size_t inner = tcp ? sizeof f->tcp : sizeof f->udp;
    memset(f, 0, sizeof *f);
    memcpy(f->ether.ether_shost, side->own, 6);
    memcpy(f->ether.ether_dhost, side->gateway, 6);
    f->ether.ether_type = htons(ETHERTYPE_IP);
    f->ip.version = 4;
    f->ip.ihl = 5;
    f->ip.ttl = 64;
    f->ip.frag_off = htons(IP_DF);
    f->ip.protocol = tcp ? IPPROTO_TCP : IPPROTO_UDP;
    f->ip.tot_len = htons(sizeof f->ip + inner);
    f->ip.saddr = side->source;
    f->ip.daddr = side->target;
    f->ip.check = folded(sum(&f->ip, sizeof f->ip, 0));
    if (!tcp) {
        f->udp.source = htons(from);
        f->udp.dest = htons(to);
        f->udp.len = htons(inner);  // no checksum: IPv4 allows it
    } else {
        f->tcp.source = htons(from);
        f->tcp.dest = htons(to);
        f->tcp.seq = htonl(seq);
        f->tcp.ack_seq = htonl(flags & ACK ? ack : 0);
        f->tcp.doff = 5;
        ((uint8_t *)&f->tcp)[13] = flags;
        f->tcp.window = htons(65535);
        f->tcp.check = folded(sum(&f->tcp, inner, sum(&f->ip.saddr, 8, IPPROTO_TCP + inner)));
    }
    return sizeof f->ether + sizeof f->ip + inner;
}

static void send_all(const struct side *side, struct mmsghdr *messages, int count)
{
    for (int sent = 0; sent < count;) {
        int done = sendmmsg(side->socket, messages + sent, count - sent, 0);
        if (done <= 0) {
            errors++;
            done = 1;  // this one is lost
        }
        sent += done;
    }
}

// One step of every connection of a batch: the same packet of each.
static void step(const struct side *side, int from_client, int tcp, long first, int count, uint32_t seq,
                 uint32_t ack, uint8_t flags)
{
    static struct frame frames[BATCH];
    static struct iovec vectors[BATCH];
    static struct mmsghdr messages[BATCH];
    for (int i = 0; i < count; i++) {
        uint16_t port = FIRST_PORT + (first + i) % PORTS, service = FIRST_SERVICE + (first + i) / PORTS;
        vectors[i].iov_base = &frames[i];
        vectors[i].iov_len = build(&frames[i], side, tcp, from_client ? port : service,
                                   from_client ? service : port, seq, ack, flags);
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    send_all(side, messages, count);
}

static void connections(const char *kind, const struct side *c, const struct side *s, long first, int count)
{
    if (!strcmp(kind, "udp")) {
        step(c, 1, 0, first, count, 0, 0, 0);
        step(s, 0, 0, first, count, 0, 0, 0);
        return;
    }
    step(c, 1, 1, first, count, 1000, 0, SYN);
    step(s, 0, 1, first, count, 5000, 1001, SYN | ACK);
    step(c, 1, 1, first, count, 1001, 5001, ACK);
}

static void closings(const struct side *c, const struct side *s, long first, int count)
{
    step(c, 1, 1, first, count, 1001, 5001, FIN | ACK);
    step(s, 0, 1, first, count, 5001, 1002, FIN | ACK);
    step(c, 1, 1, first, count, 1002, 5002, ACK);
}

static int at_most(long most, long rest)
{
    return rest < 0 ? 0 : rest < most ? (int)rest : (int)most;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    struct side client, server;
    if (argc != 11) {
        fprintf(stderr, "loadmaker: 10 arguments are expected\n");
        return 2;
    }
    const char *kind = argv[1];
    long count = atol(argv[2]), first = atol(argv[3]), rate = atol(argv[4]);
    if (rate < 1 && !strcmp(kind, "lasting")) {
        fprintf(stderr, "loadmaker: what lasts needs a rate\n");
        return 2;
    }
    if (count < 1 || first < 0 || first + count > (long)PORTS * SERVICES || rate < 0) {
        fprintf(stderr, "loadmaker: numbers 0..%d are there\n", PORTS * SERVICES);
        return 2;
    }
    open_side(&client, argv[6], argv[7], argv[9]);
    int other = open(argv[5], O_RDONLY);
    if (other < 0 || setns(other, CLONE_NEWNET) < 0)
        fail(argv[5]);
    open_side(&server, argv[7], argv[8], argv[10]);

    int most = rate && rate < 64000 ? (int)(rate / 1000) + 1 : BATCH;
    int lasting = !strcmp(kind, "lasting"), closes = lasting || !strcmp(kind, "tcp");
    long opened = 0, closed = closes ? 0 : count, later = lasting ? rate : 0;
    double began = now(), seconds = 0;
    for (long due = most; opened < count || closed < count; due += most) {
        int some = at_most(most, count - opened);
        connections(kind, &client, &server, first + opened, some);
        opened += some;
        if (some)
            seconds = now() - began;
        if (closes) {
            some = at_most(most, (due - later < count ? due - later : count) - closed);
            closings(&client, &server, first + closed, some);
            closed += some;
        }
        double ahead = rate ? began + (double)due / rate - now() : 0;
        if (ahead > 0)
            usleep((useconds_t)(ahead * 1e6));
    }
    printf("{\"connections\": %ld, \"seconds\": %.3f, \"errors\": %ld}\n", count, seconds, errors);
    return 0;
}
