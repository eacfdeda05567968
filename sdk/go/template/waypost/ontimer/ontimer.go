// Package ontimer is asked now and then, outside any mail.
package ontimer

import "greylist/waypost"

var handler func()

// Handle registers what is done.
func Handle(work func()) { handler = work }

//go:wasmexport waypost:plugin/on-timer@0.1.0#tick
func export() {
	waypost.Enter()
	handler()
}
