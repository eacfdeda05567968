// Package waypost is Waypost's plugin contract as Go says it: the words, and how a plugin begins. What the host can be asked is in
// host.go and services.go; each stage has a package below this one, and importing it is half of the subscription: the other half is a
// line in world.wit.
package waypost

import (
	"encoding/json"
	"fmt"
	"strings"
	"unsafe"
)

// Action is what a stage answers.
type Action struct {
	kind   uint8
	reply  reply
	text   string
	number uint32
}

type reply struct {
	code     uint16
	enhanced [3]uint16
	text     string
}

// In the order of the contract.
const (
	next uint8 = iota
	accept
	reject
	tempfail
	discard
	quarantine
	disconnect
	deferral
)

var (
	// Next is no opinion: the next plugin is asked.
	Next = Action{kind: next}
	// Accept ends this stage's chain: no later plugin is asked.
	Accept = Action{kind: accept}
	// Discard accepts on the wire and drops.
	Discard = Action{kind: discard}
)

// Reject refuses for good. code is 5xx, status as in "5.7.1" (RFC 3463).
func Reject(code uint16, status, text string) Action {
	return Action{kind: reject, reply: reply{code, enhanced(status), text}}
}

// Tempfail asks the client to come back. code is 4xx.
func Tempfail(code uint16, status, text string) Action {
	return Action{kind: tempfail, reply: reply{code, enhanced(status), text}}
}

// Disconnect says this and closes.
func Disconnect(code uint16, status, text string) Action {
	return Action{kind: disconnect, reply: reply{code, enhanced(status), text}}
}

// Quarantine holds the message for an operator.
func Quarantine(reason string) Action { return Action{kind: quarantine, text: reason} }

// Defer asks the client to come back after so many seconds.
func Defer(seconds uint32) Action { return Action{kind: deferral, number: seconds} }

func enhanced(status string) (parts [3]uint16) {
	if n, err := fmt.Sscanf(status, "%d.%d.%d", &parts[0], &parts[1], &parts[2]); n != 3 {
		panic(fmt.Sprintf("waypost: %q is no enhanced status: %v", status, err))
	}
	return parts
}

// Registration is what a plugin says of itself, and how it narrows what it is asked. The zero value of the rest is: everything.
type Registration struct {
	Name, Version                  string
	RcptDomains                    []string
	OnlyInbound, OnlyAuthenticated bool
	// MaxSize skips larger messages, unless it is 0.
	MaxSize uint64
}

var onInit = func() (Registration, error) { return Registration{}, fmt.Errorf("OnInit was not called") }

// OnInit registers what makes the plugin ready: it reads the settings, and its error is read by an operator.
func OnInit(start func() (Registration, error)) { onInit = start }

// Settings reads the plugin's section of the configuration. A setting that the structure does not have is a mistake.
func Settings(into any) error {
	decoder := json.NewDecoder(strings.NewReader(Config()))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

//go:wasmexport waypost:plugin/lifecycle@0.1.0#init
func initialize() unsafe.Pointer {
	Enter()
	registration, err := onInit()
	out := unsafe.Pointer(&area)
	if err != nil {
		put(out, 0, uint8(1))
		putText(out, 8, err.Error())
		return out
	}
	domains, count := list(registration.RcptDomains, 8, func(to unsafe.Pointer, domain string) { putText(to, 0, domain) })
	put(out, 0, uint8(0))
	putText(out, 8, registration.Name)
	putText(out, 16, registration.Version)
	put(out, 24, uint32(uintptr(domains)))
	put(out, 28, count)
	put(out, 32, bit(registration.OnlyInbound))
	put(out, 33, bit(registration.OnlyAuthenticated))
	put(out, 40, uint64(bit(registration.MaxSize != 0)))
	put(out, 48, registration.MaxSize)
	put(out, 56, uint64(0))
	return out
}

// Answer is how the packages of the stages give an action or an error to the host.
func Answer(action Action, err error) unsafe.Pointer {
	leave()
	out := unsafe.Pointer(&area)
	write(out, action, err)
	return out
}

// Answers is the same for several.
func Answers(count int, answer func(int) (Action, error)) unsafe.Pointer {
	first := block(24 * uintptr(count))
	for i := range count {
		action, err := answer(i)
		write(unsafe.Add(first, 24*uintptr(i)), action, err)
	}
	leave()
	out := unsafe.Pointer(&area)
	put(out, 0, uint32(uintptr(first)))
	put(out, 4, uint32(count))
	return out
}

func write(out unsafe.Pointer, action Action, err error) {
	put(out, 0, bit(err != nil))
	if err != nil {
		putText(out, 4, err.Error())
		return
	}
	put(out, 4, action.kind)
	switch action.kind {
	case reject, tempfail, disconnect:
		put(out, 8, action.reply.code)
		put(out, 10, uint8(action.reply.enhanced[0]))
		put(out, 11, uint8(action.reply.enhanced[1]))
		put(out, 12, action.reply.enhanced[2])
		putText(out, 16, action.reply.text)
	case quarantine:
		putText(out, 8, action.text)
	case deferral:
		put(out, 8, action.number)
	}
}
