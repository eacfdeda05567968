// Says what the host tells, line by line, in header fields that the test compares: whether the Go layer reads and writes the contract's layouts.
package main

import (
	"fmt"
	"strings"

	"greylist/waypost"
	"greylist/waypost/ondata"
	"greylist/waypost/onhelo"
	"greylist/waypost/onmail"
	"greylist/waypost/onmessage"
	"greylist/waypost/onqueue"
	"greylist/waypost/onrcpt"
)

func init() {
	waypost.OnInit(func() (waypost.Registration, error) {
		return waypost.Registration{Name: "conformance", Version: "1", RcptDomains: []string{"elsewhere.example", "waypost.test"}, MaxSize: 1 << 20}, nil
	})
	onhelo.Handle(func(name string, extended bool) (waypost.Action, error) {
		waypost.SetVar("helo", fmt.Appendf(nil, "%s %t", name, extended))
		return waypost.Next, nil
	})
	onmail.Handle(func(sender string) (waypost.Action, error) {
		switch sender {
		case "defer@client.example":
			return waypost.Tempfail(451, "4.3.250", "not now"), nil
		case "fail@client.example":
			return waypost.Next, fmt.Errorf("as was wished")
		}
		waypost.SetVar("mail", []byte(sender))
		return waypost.Next, nil
	})
	onrcpt.Handle(func(r waypost.Recipient) (waypost.Action, error) {
		if r.Address == "bob@waypost.test" {
			return waypost.Reject(553, "5.1.250", "not him"), nil
		}
		waypost.SetVar("rcpt", fmt.Appendf(nil, "%s %s %s %s", r.Address, r.Domain, r.ORcpt, r.Notify))
		return waypost.Next, nil
	})
	ondata.Handle(func() (waypost.Action, error) { return waypost.Next, nil })
	onmessage.Handle(message)
	onqueue.Handle(func(id string) (waypost.Action, error) {
		waypost.AddHeader("X-Queue", fmt.Sprint(len(id) > 8))
		return waypost.Next, nil
	})
}

func main() {}

func say(form string, values ...any) {
	waypost.AddHeader("X-Conformance", fmt.Sprintf(form, values...))
}

func message() (waypost.Action, error) {
	for _, name := range []string{"helo", "mail", "rcpt", "none"} {
		value, there := waypost.Var(name)
		say("var %s %s %t", name, value, there)
	}
	say("session %t %s %s %t %s", waypost.SessionID() != "", waypost.ClientIP(), waypost.Helo(), waypost.ClientPort() > 1024, waypost.AuthUser()+waypost.TLS())
	say("envelope %s %d %v", waypost.Sender(), waypost.RecipientCount(), waypost.Recipients())
	say("change %v %v", waypost.AddRecipient("bob@waypost.test"), waypost.RemoveRecipient("nobody@waypost.test"))
	say("message %t %s %d", waypost.Size() > 100, waypost.Header("subject"), len(waypost.Header("None")))
	say("read %s", waypost.Read(0, 5))
	for _, part := range waypost.Parts() {
		say("part %s %s %d %s [%s]", part.MIMEType, part.Filename, part.Size, part.Disposition, strings.TrimSpace(string(waypost.ReadPart(part.Path, 1, 3))))
	}
	for _, finding := range waypost.Findings() {
		if finding.Method == "spf" {
			say("finding %s %s", finding.Method, finding.Domain)
		}
	}
	waypost.AddFact("ONE", 1.5, "why")
	waypost.AddFact("TWO", -0.25, "")
	say("facts %v %v %v", waypost.HasFact("ONE"), waypost.HasFact("THREE"), waypost.FactsTotal())
	key := "k" + strings.Repeat("e", 70)
	waypost.KVSet(key, []byte("v\x00w"), 60)
	value, there := waypost.KVGet(key)
	many := waypost.KVGetMany([]string{"none", key})
	say("kv %q %t %t %q %d %d %t %t", value, there, many[0] == nil, many[1], waypost.KVIncr("n", 5, 60), waypost.KVIncr("n", -7, 0),
		waypost.KVSwap("s", nil, []byte("1"), 60), waypost.KVSwap("s", nil, []byte("2"), 60))
	big := strings.Repeat("0123456789", 2000)
	waypost.KVSet("big", []byte(big), 60)
	whole, _ := waypost.KVGet("big")
	say("big %t", string(whole) == big)
	answers := waypost.Lookup(waypost.Query{Name: "good.example", Type: waypost.MX}, waypost.Query{Name: "absent.example", Type: waypost.A}, waypost.Query{Name: "good.example", Type: waypost.A})
	say("dns %v %v %v", answers[0].Records, answers[1].Err, answers[2].Records)
	found, there := waypost.Table("people", "ann")
	missing, absent := waypost.Table("people", "joe")
	say("table %s %t %s %t", found, there, missing, absent)
	say("env %t %t %t %d", waypost.NowMillis() > 1e12, waypost.Granted("kv"), waypost.Granted("http"), len(waypost.Random(9)))
	waypost.RemoveHeader("X-Old")
	waypost.PrependHeader("X-First", "yes")
	return waypost.Next, nil
}
