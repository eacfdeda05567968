// Package onheaders is the stage headers: when the header block is complete.
package onheaders

import (
	"unsafe"

	"greylist/waypost"
)

var handler func() (waypost.Action, error)

// Handle registers what answers.
func Handle(answer func() (waypost.Action, error)) { handler = answer }

//go:wasmexport waypost:plugin/on-headers@0.1.0#headers
func export() unsafe.Pointer {
	waypost.Enter()
	return waypost.Answer(handler())
}
