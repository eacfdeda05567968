// Package onconnect is the stage connect: before the greeting.
package onconnect

import (
	"unsafe"

	"greylist/waypost"
)

var handler func() (waypost.Action, error)

// Handle registers what answers.
func Handle(answer func() (waypost.Action, error)) { handler = answer }

//go:wasmexport waypost:plugin/on-connect@0.1.0#connect
func export() unsafe.Pointer {
	waypost.Enter()
	return waypost.Answer(handler())
}
