// Package ondata is the stage data: after DATA, before 354.
package ondata

import (
	"unsafe"

	"greylist/waypost"
)

var handler func() (waypost.Action, error)

// Handle registers what answers.
func Handle(answer func() (waypost.Action, error)) { handler = answer }

//go:wasmexport waypost:plugin/on-data@0.1.0#data
func export() unsafe.Pointer {
	waypost.Enter()
	return waypost.Answer(handler())
}
