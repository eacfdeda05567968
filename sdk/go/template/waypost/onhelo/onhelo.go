// Package onhelo is the stage helo: HELO, EHLO (extended is true) or LHLO.
package onhelo

import (
	"unsafe"

	"greylist/waypost"
)

var handler func(name string, extended bool) (waypost.Action, error)

// Handle registers what answers.
func Handle(answer func(name string, extended bool) (waypost.Action, error)) { handler = answer }

//go:wasmexport waypost:plugin/on-helo@0.1.0#helo
func export(name unsafe.Pointer, n uint32, extended int32) unsafe.Pointer {
	waypost.Enter()
	return waypost.Answer(handler(waypost.Argument(name, n), extended != 0))
}
