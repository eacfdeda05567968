// Package onmail is the stage mail: MAIL; an empty sender is <>.
package onmail

import (
	"unsafe"

	"greylist/waypost"
)

var handler func(sender string) (waypost.Action, error)

// Handle registers what answers.
func Handle(answer func(sender string) (waypost.Action, error)) { handler = answer }

//go:wasmexport waypost:plugin/on-mail@0.1.0#mail
func export(sender unsafe.Pointer, n uint32) unsafe.Pointer {
	waypost.Enter()
	return waypost.Answer(handler(waypost.Argument(sender, n)))
}
