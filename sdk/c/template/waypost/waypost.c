/* Memory that lives as long as a call, and the way of answers to the host. Whoever writes a filter need not read this page. */
#include "waypost.h"

#include <stdlib.h>

/* One block, used from the beginning again when a stage has been answered; what does not fit gets blocks of its own. */
#define ARENA (64u << 10)
static _Alignas(8) char arena[ARENA];
static size_t used;
struct block { struct block *next; uint64_t memory[]; };
static struct block *blocks;
static waypost_outcome answer;
/* A stage was answered, and the host has read the answer when it calls again. */
static bool over;

static void forget(void);

void *waypost_memory(size_t size, size_t align) {
    if (over) forget();
    size_t start = (used + align - 1) & ~(align - 1);
    if (start <= ARENA && size <= ARENA - start) {
        used = start + size;
        return arena + start;
    }
    struct block *block = malloc(sizeof(struct block) + size);
    if (block == NULL) abort();
    block->next = blocks;
    blocks = block;
    return block->memory;
}

static void forget(void) {
    used = 0;
    over = false;
    while (blocks != NULL) {
        struct block *next = blocks->next;
        free(blocks);
        blocks = next;
    }
}

/* The host asks for room for what it gives, and never for more room afterwards. */
__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    (void)old;
    if (old_size != 0) abort();
    return waypost_memory(size, align);
}

static struct {
    uint8_t failed;
    union { waypost_registration registration; waypost_text mistake; } is;
} registered;

WAYPOST_EXPORT("lifecycle@0.1.0#init") const void *waypost_lifecycle(void) {
    memset(&registered, 0, sizeof registered);
    waypost_text mistake = waypost_init(&registered.is.registration);
    if (mistake.len != 0) {
        registered.failed = 1;
        registered.is.mistake = mistake;
    }
    over = true;
    return &registered;
}

const waypost_outcome *waypost_answer(waypost_outcome outcome) {
    answer = outcome;
    over = true;
    return &answer;
}

static waypost_outcome reply(uint8_t kind, uint16_t code, uint8_t class, uint8_t subject, uint16_t detail, waypost_text text) {
    waypost_outcome outcome = { 0 };
    outcome.action.kind = kind;
    outcome.action.is.reply = (waypost_reply){ code, class, subject, detail, text };
    return outcome;
}

static waypost_outcome plain(uint8_t kind) {
    waypost_outcome outcome = { 0 };
    outcome.action.kind = kind;
    return outcome;
}

waypost_outcome waypost_next(void) { return plain(0); }
waypost_outcome waypost_accept(void) { return plain(1); }
waypost_outcome waypost_reject(uint16_t code, uint8_t class, uint8_t subject, uint16_t detail, waypost_text text) {
    return reply(2, code, class, subject, detail, text);
}
waypost_outcome waypost_tempfail(uint16_t code, uint8_t class, uint8_t subject, uint16_t detail, waypost_text text) {
    return reply(3, code, class, subject, detail, text);
}
waypost_outcome waypost_discard(void) { return plain(4); }
waypost_outcome waypost_quarantine(waypost_text reason) {
    waypost_outcome outcome = plain(5);
    outcome.action.is.reason = reason;
    return outcome;
}

waypost_outcome waypost_fail(waypost_text reason) {
    waypost_outcome outcome = { .failed = 1 };
    /* In an `err` the text stands where an `ok` has its action. */
    memcpy(&outcome.action, &reason, sizeof reason);
    return outcome;
}

waypost_text waypost_join(const waypost_text *parts, size_t count) {
    size_t len = 0;
    for (size_t i = 0; i < count; i++) len += parts[i].len;
    char *joined = waypost_memory(len, 1), *to = joined;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len != 0) memcpy(to, parts[i].at, parts[i].len);
        to += parts[i].len;
    }
    return (waypost_text){ joined, (uint32_t)len };
}

waypost_text waypost_lower(waypost_text text) {
    char *lower = waypost_memory(text.len, 1);
    for (uint32_t i = 0; i < text.len; i++) {
        lower[i] = text.at[i] >= 'A' && text.at[i] <= 'Z' ? (char)(text.at[i] + 32) : text.at[i];
    }
    return (waypost_text){ lower, text.len };
}

bool waypost_equal(waypost_text a, waypost_text b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

/* The layouts that the host counts on. */
_Static_assert(sizeof(waypost_option) == 12, "option<string>");
_Static_assert(sizeof(waypost_reply) == 16 && offsetof(waypost_reply, text) == 8, "reply");
_Static_assert(sizeof(waypost_outcome) == 24 && offsetof(waypost_outcome, action.is) == 8, "outcome");
_Static_assert(offsetof(waypost_registration, max_size) == 32 && sizeof(waypost_registration) == 56, "registration");
_Static_assert(offsetof(waypost_registration, body) == 48 && sizeof registered == 64, "result<registration, string>");
_Static_assert(sizeof(waypost_recipient) == 40, "rcpt");
