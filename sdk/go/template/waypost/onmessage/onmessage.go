// Package onmessage is the stage message: after the final dot, before its reply.
package onmessage

import (
	"unsafe"

	"greylist/waypost"
)

var handler func() (waypost.Action, error)

// Handle registers what answers.
func Handle(answer func() (waypost.Action, error)) { handler = answer }

//go:wasmexport waypost:plugin/on-message@0.1.0#message
func export() unsafe.Pointer {
	waypost.Enter()
	return waypost.Answer(handler())
}
