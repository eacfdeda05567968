/* Tells who writes to somebody that has moved where they are now, as Postfix does with its table of moved users: mail to an address in the table
 * `relocated` is refused with the new address, or, if the table has none, with the news that there is none. A key is an address
 * or, for a whole domain, `@domain`.
 *
 * The server's own question, whether there is such a recipient, comes first: keep the address as an alias, or the domain as one of yours
 * with a catch-all, and the answer is this one.
 *
 * Stage rcpt. Grant: the table. No settings:
 *
 *   [table.relocated]
 *   kind = "inline"
 *   rows = { "ann@example.org" = "ann@elsewhere.example", "@old.example.org" = "" }
 *
 *   [plugin.relocated]
 *   tables = ["relocated"]
 */
#include "waypost/waypost.h"

static const waypost_text table = TEXT("relocated");

waypost_text waypost_init(waypost_registration *registration) {
    registration->name = TEXT("relocated");
    registration->version = TEXT("0.1.0");
    return TEXT("");
}

static waypost_outcome moved(const waypost_recipient *recipient, waypost_text to) {
    if (to.len == 0) {
        return waypost_reject(550, 5, 1, 6, WAYPOST_JOIN(TEXT("<"), recipient->address, TEXT("> has left without a new address")));
    }
    return waypost_reject(550, 5, 1, 6, WAYPOST_JOIN(TEXT("<"), recipient->address, TEXT("> has moved to <"), to, TEXT(">")));
}

/* Both keys in one call: the host looks them up at once. */
static waypost_outcome check(const waypost_recipient *recipient) {
    waypost_text keys[] = { waypost_lower(recipient->address), WAYPOST_JOIN(TEXT("@"), waypost_lower(recipient->domain)) };
    waypost_options found;
    waypost_table_many(table.at, table.len, keys, 2, &found);
    for (uint32_t i = 0; i < found.len; i++) {
        if (found.at[i].some) {
            return moved(recipient, found.at[i].text);
        }
    }
    return waypost_next();
}

WAYPOST_ON_RCPT(check)
