// Greylist puts off the first mail of a sender that nobody knows: a mail server tries again after some minutes, much of what
// sends spam does not. Who came back in time is known for a month, and not asked again.
//
// Stage rcpt. Grant kv. Settings, all of them optional:
//
//	[plugin.greylist.config]
//	wait-seconds = 300            # before the second try counts
//	window-hours = 24             # the second try must come within
//	remember-days = 36            # how long a known triplet stays known after its last mail
//	exempt = ["example.com"]      # recipient domains that want no delay
package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"greylist/waypost"
	"greylist/waypost/onrcpt"
)

type settings struct {
	WaitSeconds  uint64   `json:"wait-seconds"`
	WindowHours  uint64   `json:"window-hours"`
	RememberDays uint64   `json:"remember-days"`
	Exempt       []string `json:"exempt"`
}

var config = settings{WaitSeconds: 300, WindowHours: 24, RememberDays: 36}

// The stages are registered before the host calls anything; main itself is never run.
func init() {
	waypost.OnInit(start)
	onrcpt.Handle(check)
}

func main() {}

func start() (waypost.Registration, error) {
	if err := waypost.Settings(&config); err != nil {
		return waypost.Registration{}, err
	}
	if config.WindowHours == 0 || config.WaitSeconds >= config.WindowHours*3600 {
		return waypost.Registration{}, fmt.Errorf("wait-seconds must be shorter than window-hours")
	}
	return waypost.Registration{Name: "greylist", Version: "0.1.0", OnlyInbound: true}, nil
}

// check answers for one recipient. An error would be an orderly failure: the operator's on-fault speaks.
func check(rcpt waypost.Recipient) (waypost.Action, error) {
	client, err := netip.ParseAddr(waypost.ClientIP())
	if err != nil {
		return waypost.Next, err
	}
	// Somebody before us in the chain vouches for this client or sender; or the recipient does not want to wait.
	if waypost.HasFact("WHITELISTED") || slices.Contains(config.Exempt, strings.ToLower(rcpt.Domain)) {
		return waypost.Next, nil
	}
	return judge(triplet(client, rcpt), waypost.NowMillis()/1000)
}

// judge looks the triplet up: its value is the second in which it was first seen, or 0 once it is known.
func judge(key string, now uint64) (waypost.Action, error) {
	value, seen := waypost.KVGet(key)
	if !seen || len(value) != 8 {
		waypost.KVSet(key, seconds(now), uint32(config.WindowHours*3600))
		return putOff(config.WaitSeconds), nil
	}
	first := binary.BigEndian.Uint64(value)
	if waited := now - first; first != 0 && waited < config.WaitSeconds {
		return putOff(config.WaitSeconds - waited), nil
	}
	if first != 0 {
		waypost.AddFact("GREYLIST_PASSED", 0, "it came back")
	}
	waypost.KVSet(key, seconds(0), uint32(config.RememberDays*86400))
	return waypost.Next, nil
}

func putOff(wait uint64) waypost.Action {
	return waypost.Tempfail(450, "4.7.1", fmt.Sprintf("New here: please try again in %d seconds", wait))
}

// triplet names who writes to whom. Large senders try again from a neighbour, so a /24 or a /64 counts as one; mailing lists put a
// number into each sender, so its digits do not count.
func triplet(client netip.Addr, rcpt waypost.Recipient) string {
	bits := 24
	if client.Is6() {
		bits = 64
	}
	network, _ := client.Prefix(bits)
	sender := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '#'
		}
		return r
	}, strings.ToLower(waypost.Sender()))
	return network.String() + " " + sender + " " + strings.ToLower(rcpt.Address)
}

func seconds(at uint64) []byte {
	return binary.BigEndian.AppendUint64(nil, at)
}
