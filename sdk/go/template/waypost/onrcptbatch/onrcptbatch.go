// Package onrcptbatch is the stage rcpt for recipients that came in one go: asked instead of onrcpt where both are there.
package onrcptbatch

import (
	"unsafe"

	"greylist/waypost"
)

var handler func(waypost.Recipient) (waypost.Action, error)

// Handle registers what answers for each.
func Handle(answer func(waypost.Recipient) (waypost.Action, error)) { handler = answer }

//go:wasmexport waypost:plugin/on-rcpt-batch@0.1.0#check-all
func export(first unsafe.Pointer, count uint32) unsafe.Pointer {
	waypost.Enter()
	// All are read before the first host call, which uses their memory again.
	recipients := make([]waypost.Recipient, count)
	for i := range recipients {
		recipients[i] = waypost.RecipientAt(first, i)
	}
	return waypost.Answers(len(recipients), func(i int) (waypost.Action, error) { return handler(recipients[i]) })
}
