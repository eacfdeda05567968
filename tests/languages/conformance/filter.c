/* The same as main.go, as far as the C layer goes. */
#include "waypost/waypost.h"

waypost_text waypost_init(waypost_registration *registration) {
    registration->name = TEXT("conformance");
    registration->version = TEXT("1");
    registration->max_size.some = 1;
    registration->max_size.size = 1 << 20;
    return TEXT("");
}

static void say(waypost_text text) {
    waypost_add_header("X-Conformance", 13, text.at, text.len);
}

static waypost_text yes(bool is) { return is ? TEXT(" true") : TEXT(" false"); }

static waypost_outcome mail(waypost_text sender) {
    if (waypost_equal(sender, TEXT("defer@client.example"))) return waypost_tempfail(451, 4, 3, 250, TEXT("not now"));
    if (waypost_equal(sender, TEXT("fail@client.example"))) return waypost_fail(TEXT("as was wished"));
    return waypost_next();
}

static waypost_outcome rcpt(const waypost_recipient *recipient) {
    if (waypost_equal(recipient->address, TEXT("bob@waypost.test"))) return waypost_reject(553, 5, 1, 250, TEXT("not him"));
    waypost_text line = WAYPOST_JOIN(recipient->domain, TEXT(" "), recipient->orcpt.text, TEXT(" "), recipient->notify.text);
    waypost_log(2, line.at, line.len);
    return waypost_next();
}

static waypost_outcome message(void) {
    waypost_text ip, helo, sender, piece;
    waypost_option name, user, ann, joe;
    waypost_texts subject, none;
    waypost_client_ip(&ip);
    waypost_helo(&helo);
    waypost_ptr_name(&name);
    waypost_auth_user(&user);
    say(WAYPOST_JOIN(TEXT("session "), ip, TEXT(" "), helo, yes(name.some), yes(user.some)));
    waypost_sender(&sender);
    waypost_header("subject", 7, &subject);
    waypost_header("None", 4, &none);
    say(WAYPOST_JOIN(TEXT("message "), sender, TEXT(" "), subject.at[0], yes(none.len == 0), yes(waypost_size() > 100)));
    waypost_read(0, 5, &piece);
    say(WAYPOST_JOIN(TEXT("read "), piece));
    waypost_add_fact("ONE", 3, 1.5, 1, "why", 3);
    say(WAYPOST_JOIN(TEXT("kv"), yes(waypost_incr("n", 1, 5, 1, 60) == 5), yes(waypost_incr("n", 1, -7, 0, 0) == -2)));
    waypost_table("people", 6, "ann", 3, &ann);
    waypost_table("people", 6, "joe", 3, &joe);
    say(WAYPOST_JOIN(TEXT("table "), ann.text, yes(joe.some)));
    waypost_text keys[] = { TEXT("joe"), TEXT("ann") };
    waypost_options many;
    waypost_table_many("people", 6, keys, 2, &many);
    say(WAYPOST_JOIN(TEXT("tables"), yes(many.len == 2), yes(many.at[0].some), TEXT(" "), many.at[1].text));
    say(WAYPOST_JOIN(TEXT("env"), yes(waypost_now_ms() > 1000000000000)));
    return waypost_next();
}

WAYPOST_ON_MAIL(mail)
WAYPOST_ON_RCPT(rcpt)
WAYPOST_ON_MESSAGE(message)
