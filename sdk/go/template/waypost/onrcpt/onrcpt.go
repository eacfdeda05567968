// Package onrcpt is the stage rcpt: each RCPT.
package onrcpt

import (
	"unsafe"

	"greylist/waypost"
)

var handler func(waypost.Recipient) (waypost.Action, error)

// Handle registers what answers.
func Handle(answer func(waypost.Recipient) (waypost.Action, error)) { handler = answer }

//go:wasmexport waypost:plugin/on-rcpt@0.1.0#check
func export(
	address unsafe.Pointer, addressLen uint32, domain unsafe.Pointer, domainLen uint32,
	orcptSome int32, orcpt unsafe.Pointer, orcptLen uint32, notifySome int32, notify unsafe.Pointer, notifyLen uint32,
) unsafe.Pointer {
	waypost.Enter()
	return waypost.Answer(handler(waypost.Recipient{
		Address: waypost.Argument(address, addressLen),
		Domain:  waypost.Argument(domain, domainLen),
		ORcpt:   waypost.Argument(orcpt, orcptLen*uint32(orcptSome)),
		Notify:  waypost.Argument(notify, notifyLen*uint32(notifySome)),
	}))
}
