/* A DTLS client that is not ours: Mbed TLS around MQTT-SN messages on stdin and stdout.
 *
 * dtls_client PORT SUITE CID (psk IDENTITY HEXKEY | cert CA CERTIFICATE KEY)
 *
 * CID is yes or no. SIGUSR1 lets it go on from another port, as a device does whose NAT has forgotten it.
 * An MQTT-SN message says itself how long it is, so that stdin needs no frames. */

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/ssl.h>
#include <mbedtls/timing.h>
#include <psa/crypto.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int udp = -1;
static int port;
static volatile sig_atomic_t moves;

static void fail(const char *what, int code) {
    char text[128] = "";
    if (code != 0) mbedtls_strerror(code, text, sizeof text);
    fprintf(stderr, "%s: %s\n", what, text);
    exit(1);
}

static void must(const char *what, int code) {
    if (code != 0) fail(what, code);
}

/* A socket with a port of its own. */
static void open_socket(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int old = udp;
    inet_pton(AF_INET, getenv("DTLS_HOST") ? getenv("DTLS_HOST") : "127.0.0.1", &to.sin_addr);
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (udp < 0 || connect(udp, (struct sockaddr *) &to, sizeof to) != 0) fail("no socket", 0);
    /* Only now, so that the port is another. */
    if (old >= 0) close(old);
}

static int send_datagram(void *ctx, const unsigned char *bytes, size_t len) {
    (void) ctx;
    ssize_t sent = send(udp, bytes, len, 0);
    /* What the gateway does not take is lost, as on any network. */
    return sent < 0 ? (int) len : (int) sent;
}

static int receive_datagram(void *ctx, unsigned char *bytes, size_t len) {
    (void) ctx;
    ssize_t got = recv(udp, bytes, len, MSG_DONTWAIT);
    return got < 0 ? MBEDTLS_ERR_SSL_WANT_READ : (int) got;
}

static void wait_for(int stdin_too, int ms) {
    struct pollfd fds[2] = {{.fd = udp, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    poll(fds, stdin_too ? 2 : 1, ms);
}

static void on_signal(int signal) {
    (void) signal;
    moves = 1;
}

static size_t unhex(const char *text, unsigned char *out, size_t room) {
    size_t n = 0;
    for (; text[0] && text[1] && n < room; text += 2) {
        unsigned byte;
        sscanf(text, "%2x", &byte);
        out[n++] = (unsigned char) byte;
    }
    return n;
}

/* Sends each whole message that is in the buffer as a datagram. What is left. */
static size_t send_messages(mbedtls_ssl_context *ssl, unsigned char *buffer, size_t len) {
    size_t at = 0;
    while (at < len) {
        size_t message = buffer[at];
        if (message == 1) {
            if (len - at < 3) break;
            message = (size_t) buffer[at + 1] << 8 | buffer[at + 2];
        }
        if (message == 0 || message > len - at) break;
        int sent = mbedtls_ssl_write(ssl, buffer + at, message);
        if (sent < 0) fail("not sent", sent);
        at += message;
    }
    memmove(buffer, buffer + at, len - at);
    return len - at;
}

int main(int argc, char **argv) {
    static mbedtls_ssl_context ssl;
    static mbedtls_ssl_config config;
    static mbedtls_entropy_context entropy;
    static mbedtls_ctr_drbg_context random;
    static mbedtls_timing_delay_context timer;
    static mbedtls_x509_crt ca, own;
    static mbedtls_pk_context key;
    int suites[2] = {0, 0};
    unsigned char buffer[4096], received[4096], secret[64], cid[4] = {1, 2, 3, 4};
    size_t waiting = 0;
    if (argc < 7) fail("arguments are missing", 0);
    port = atoi(argv[1]);
    suites[0] = mbedtls_ssl_get_ciphersuite_id(argv[2]);
    if (suites[0] == 0) fail("no such suite", 0);
    signal(SIGUSR1, on_signal);
    psa_crypto_init();
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_config_init(&config);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    mbedtls_x509_crt_init(&ca);
    mbedtls_x509_crt_init(&own);
    mbedtls_pk_init(&key);
    must("random", mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0));
    must("config", mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_DATAGRAM,
                                               MBEDTLS_SSL_PRESET_DEFAULT));
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    mbedtls_ssl_conf_ciphersuites(&config, suites);
    mbedtls_ssl_conf_read_timeout(&config, 0);
    if (strcmp(argv[4], "psk") == 0) {
        size_t len = unhex(argv[6], secret, sizeof secret);
        must("psk", mbedtls_ssl_conf_psk(&config, secret, len, (unsigned char *) argv[5], strlen(argv[5])));
    } else {
        must("ca", mbedtls_x509_crt_parse_file(&ca, argv[5]));
        must("certificate", mbedtls_x509_crt_parse_file(&own, argv[6]));
        must("key", mbedtls_pk_parse_keyfile(&key, argv[7], NULL, mbedtls_ctr_drbg_random, &random));
        mbedtls_ssl_conf_ca_chain(&config, &ca, NULL);
        must("own", mbedtls_ssl_conf_own_cert(&config, &own, &key));
    }
    int with_cid = strcmp(argv[3], "yes") == 0;
    if (with_cid) must("cid", mbedtls_ssl_conf_cid(&config, sizeof cid, MBEDTLS_SSL_UNEXPECTED_CID_IGNORE));
    must("setup", mbedtls_ssl_setup(&ssl, &config));
    if (with_cid) must("cid", mbedtls_ssl_set_cid(&ssl, MBEDTLS_SSL_CID_ENABLED, cid, sizeof cid));
    must("name", mbedtls_ssl_set_hostname(&ssl, strcmp(argv[4], "psk") == 0 ? NULL : "localhost"));
    mbedtls_ssl_set_timer_cb(&ssl, &timer, mbedtls_timing_set_delay, mbedtls_timing_get_delay);
    mbedtls_ssl_set_bio(&ssl, NULL, send_datagram, receive_datagram, NULL);
    open_socket();

    int step;
    while ((step = mbedtls_ssl_handshake(&ssl)) != 0) {
        if (step != MBEDTLS_ERR_SSL_WANT_READ && step != MBEDTLS_ERR_SSL_WANT_WRITE) fail("handshake", step);
        wait_for(0, 100);
    }
    int has_cid = 0;
    unsigned char peer[MBEDTLS_SSL_CID_OUT_LEN_MAX];
    size_t peer_len = 0;
    mbedtls_ssl_get_peer_cid(&ssl, &has_cid, peer, &peer_len);
    fprintf(stderr, "connected %s cid=%s\n", mbedtls_ssl_get_ciphersuite(&ssl), has_cid ? "yes" : "no");

    for (;;) {
        if (moves) {
            moves = 0;
            open_socket();
            fprintf(stderr, "moved\n");
        }
        int got = mbedtls_ssl_read(&ssl, received, sizeof received);
        if (got > 0) {
            if (write(1, received, (size_t) got) != got) return 0;
            continue;
        }
        if (got != MBEDTLS_ERR_SSL_WANT_READ && got != MBEDTLS_ERR_SSL_WANT_WRITE && got != MBEDTLS_ERR_SSL_TIMEOUT) {
            fprintf(stderr, "closed\n");
            return 0;
        }
        struct pollfd in = {.fd = 0, .events = POLLIN};
        if (poll(&in, 1, 0) > 0) {
            ssize_t len = read(0, buffer + waiting, sizeof buffer - waiting);
            if (len < 0 && errno == EINTR) continue;
            if (len <= 0) {
                mbedtls_ssl_close_notify(&ssl);
                return 0;
            }
            waiting = send_messages(&ssl, buffer, waiting + (size_t) len);
            continue;
        }
        wait_for(1, 1000);
    }
}
