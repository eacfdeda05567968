/* Waypost's contract as C says it. The structures are those of the component model's canonical ABI, which on wasm32 lays records out as a
 * C compiler does; so what the host writes is read as it is.
 *
 * Memory: texts that the host gives, and those that waypost_join makes, live until the stage has been answered, and nobody frees them.
 * What shall live longer, copy with malloc in waypost_init. Functions that nobody calls are not in the component. */
#ifndef WAYPOST_H
#define WAYPOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct { const char *at; uint32_t len; } waypost_text;
typedef struct { uint8_t some; waypost_text text; } waypost_option;
typedef struct { waypost_text *at; uint32_t len; } waypost_texts;
typedef struct { waypost_option *at; uint32_t len; } waypost_options;

/* A literal as a text. */
#define TEXT(literal) ((waypost_text){ literal, sizeof(literal) - 1 })
/* Texts put together: WAYPOST_JOIN(TEXT("Hello "), name). */
#define WAYPOST_JOIN(...) \
    waypost_join((waypost_text[]){ __VA_ARGS__ }, sizeof((waypost_text[]){ __VA_ARGS__ }) / sizeof(waypost_text))
waypost_text waypost_join(const waypost_text *parts, size_t count);
/* In lower case, as far as ASCII goes. */
waypost_text waypost_lower(waypost_text text);
bool waypost_equal(waypost_text a, waypost_text b);
/* Memory until the stage has been answered. */
void *waypost_memory(size_t size, size_t align);

/* The answers. */

typedef struct { uint16_t code; uint8_t class; uint8_t subject; uint16_t detail; waypost_text text; } waypost_reply;
typedef struct {
    uint8_t failed;
    struct {
        uint8_t kind;
        union { waypost_reply reply; waypost_text reason; uint32_t seconds; } is;
    } action;
} waypost_outcome;

/* No opinion: the next plugin is asked. */
waypost_outcome waypost_next(void);
/* Ends this stage's chain: no later plugin is asked. */
waypost_outcome waypost_accept(void);
/* Refuses for good: waypost_reject(550, 5, 7, 1, TEXT("…")). */
waypost_outcome waypost_reject(uint16_t code, uint8_t class, uint8_t subject, uint16_t detail, waypost_text text);
/* Asks the client to come back. */
waypost_outcome waypost_tempfail(uint16_t code, uint8_t class, uint8_t subject, uint16_t detail, waypost_text text);
/* Accepts on the wire, and drops. */
waypost_outcome waypost_discard(void);
/* Holds the message for an operator. */
waypost_outcome waypost_quarantine(waypost_text reason);
/* An orderly failure: the operator's on-fault speaks, and nothing that was asked for takes effect. */
waypost_outcome waypost_fail(waypost_text reason);

/* How a plugin begins. */

typedef struct {
    waypost_text name, version;
    waypost_texts rcpt_domains;            /* none: all */
    bool only_inbound, only_authenticated;
    struct { uint8_t some; uint64_t size; } max_size;
    uint8_t body;
    uint32_t preview_bytes;
} waypost_registration;

/* Written by the plugin: fills the registration in, all of which is zero. A text other than empty is a mistake for the operator to read. */
waypost_text waypost_init(waypost_registration *registration);

typedef struct { waypost_text address, domain; waypost_option orcpt, notify; } waypost_recipient;

/* The stages. A line like WAYPOST_ON_RCPT(check) at the end of the source subscribes, with one in world.wit. */

#define WAYPOST_EXPORT(name) __attribute__((export_name("waypost:plugin/" name)))
#define WAYPOST_ON_(stage, name, function) \
    WAYPOST_EXPORT(name) const waypost_outcome *waypost_on_##stage(void) { return waypost_answer(function()); }
#define WAYPOST_ON_CONNECT(function) WAYPOST_ON_(connect, "on-connect@0.1.0#connect", function)
#define WAYPOST_ON_DATA(function) WAYPOST_ON_(data, "on-data@0.1.0#data", function)
#define WAYPOST_ON_HEADERS(function) WAYPOST_ON_(headers, "on-headers@0.1.0#headers", function)
#define WAYPOST_ON_MESSAGE(function) WAYPOST_ON_(message, "on-message@0.1.0#message", function)
#define WAYPOST_ON_HELO(function)                                                                           \
    WAYPOST_EXPORT("on-helo@0.1.0#helo")                                                                    \
    const waypost_outcome *waypost_on_helo(const char *at, uint32_t len, int32_t extended) {                \
        return waypost_answer(function((waypost_text){ at, len }, extended != 0));                          \
    }
#define WAYPOST_ON_MAIL(function)                                                                           \
    WAYPOST_EXPORT("on-mail@0.1.0#mail")                                                                    \
    const waypost_outcome *waypost_on_mail(const char *at, uint32_t len) {                                  \
        return waypost_answer(function((waypost_text){ at, len }));                                         \
    }
#define WAYPOST_ON_RCPT(function)                                                                           \
    WAYPOST_EXPORT("on-rcpt@0.1.0#check")                                                                   \
    const waypost_outcome *waypost_on_rcpt(                                                                 \
        const char *address, uint32_t address_len, const char *domain, uint32_t domain_len, int32_t orcpt,  \
        const char *orcpt_at, uint32_t orcpt_len, int32_t notify, const char *notify_at, uint32_t notify_len) { \
        waypost_recipient recipient = { { address, address_len }, { domain, domain_len },                   \
            { (uint8_t)orcpt, { orcpt_at, orcpt_len } }, { (uint8_t)notify, { notify_at, notify_len } } };  \
        return waypost_answer(function(&recipient));                                                        \
    }
const waypost_outcome *waypost_answer(waypost_outcome outcome);

/* What the host can be asked. `out` is filled in. */

#define WAYPOST_IMPORT(interface, name) \
    __attribute__((import_module("waypost:plugin/" interface "@0.1.0"), import_name(name))) extern

WAYPOST_IMPORT("session", "client-ip") void waypost_client_ip(waypost_text *out);
WAYPOST_IMPORT("session", "helo") void waypost_helo(waypost_text *out);
WAYPOST_IMPORT("session", "ptr-name") void waypost_ptr_name(waypost_option *out);
WAYPOST_IMPORT("session", "auth-user") void waypost_auth_user(waypost_option *out);
WAYPOST_IMPORT("envelope", "sender") void waypost_sender(waypost_text *out);
WAYPOST_IMPORT("message", "size") uint64_t waypost_size(void);
/* Every field of that name, unfolded. */
WAYPOST_IMPORT("message", "header") void waypost_header(const char *name, uint32_t len, waypost_texts *out);
/* Reads the message as it came. Less than length is the end. */
WAYPOST_IMPORT("message", "read") void waypost_read(uint64_t offset, uint32_t length, waypost_text *out);
WAYPOST_IMPORT("message", "add-header")
void waypost_add_header(const char *name, uint32_t name_len, const char *value, uint32_t value_len);
WAYPOST_IMPORT("scores", "add")
void waypost_add_fact(const char *symbol, uint32_t len, double weight, int32_t with_detail, const char *detail, uint32_t detail_len);
/* Grant: the table's name in `tables`. */
WAYPOST_IMPORT("tables", "lookup")
void waypost_table(const char *table, uint32_t table_len, const char *key, uint32_t key_len, waypost_option *out);
WAYPOST_IMPORT("tables", "lookup-many")
void waypost_table_many(const char *table, uint32_t table_len, const waypost_text *keys, uint32_t count, waypost_options *out);
/* Grant kv. The counter is gone ttl seconds after the last addition. */
WAYPOST_IMPORT("kv", "incr")
int64_t waypost_incr(const void *key, uint32_t len, int64_t delta, int32_t with_ttl, uint32_t ttl);
/* level: 0 trace, 1 debug, 2 info, 3 warn, 4 error */
WAYPOST_IMPORT("env", "log") void waypost_log(int32_t level, const char *line, uint32_t len);
/* The plugin's section of the configuration, as JSON. */
WAYPOST_IMPORT("env", "config") void waypost_config(waypost_text *out);
/* Milliseconds since 1970; stands still during a call. */
WAYPOST_IMPORT("env", "now-ms") uint64_t waypost_now_ms(void);

#endif
