// Package onqueue is the stage queue: the message has its queue id and is about to be stored.
package onqueue

import (
	"unsafe"

	"greylist/waypost"
)

var handler func(queueID string) (waypost.Action, error)

// Handle registers what answers.
func Handle(answer func(queueID string) (waypost.Action, error)) { handler = answer }

//go:wasmexport waypost:plugin/on-queue@0.1.0#enqueue
func export(queueID unsafe.Pointer, n uint32) unsafe.Pointer {
	waypost.Enter()
	return waypost.Answer(handler(waypost.Argument(queueID, n)))
}
