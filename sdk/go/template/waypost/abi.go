// How values cross the border between the host and this component: the canonical ABI of the component model, written by hand, since
// that needs no module from anywhere. Whoever writes a filter need not read this page.
//
// The host puts what it gives us into memory that it asks `cabi_realloc` for, and tells where in `area`. Everything is copied out of
// there before the next call, so both are used again and again.
package waypost

import "unsafe"

const arenaSize = 64 << 10

var (
	// area is where the host writes the results of a call, and where we write those of an export. 64 octets are enough for all.
	area [8]uint64
	// arena is what the host writes texts and lists to, until used reaches its end; larger or later ones get memory of their own.
	arena   [arenaSize / 8]uint64
	used    uintptr
	pinned  [][]uint64
	scratch []any
)

//go:wasmexport cabi_realloc
func realloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if oldSize != 0 {
		panic("waypost: the host never lets memory grow")
	}
	start := (used + uintptr(align) - 1) &^ (uintptr(align) - 1)
	if end := start + uintptr(size); end <= arenaSize {
		used = end
		return unsafe.Add(unsafe.Pointer(&arena), start)
	}
	block := make([]uint64, size/8+1)
	pinned = append(pinned, block)
	return unsafe.Pointer(&block[0])
}

// call prepares for an import that gives something, and says where the host shall write it.
func call() unsafe.Pointer {
	used, pinned = 0, nil
	return unsafe.Pointer(&area)
}

// Enter is called at the begin of every export: what the answer before it held is no longer needed. Its arguments are in the arena.
func Enter() { scratch = nil }

// leave is called when an export has its answer, and so has copied its arguments.
func leave() { used, pinned = 0, nil }

// at reads a value in what the host wrote.
func at[T any](base unsafe.Pointer, offset uintptr) T { return *(*T)(unsafe.Add(base, offset)) }

// put writes a value for the host.
func put[T any](base unsafe.Pointer, offset uintptr, value T) {
	*(*T)(unsafe.Add(base, offset)) = value
}

// pointer is an address as the host writes it: 32 bits.
func pointer(address uint32) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(nil), uintptr(address)) }

func stringAt(base unsafe.Pointer, offset uintptr) string {
	return string(bytesAt(base, offset))
}

// bytesAt is what stands there, not copied.
func bytesAt(base unsafe.Pointer, offset uintptr) []byte {
	length := at[uint32](base, offset+4)
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(pointer(at[uint32](base, offset))), length)
}

func copyAt(base unsafe.Pointer, offset uintptr) []byte {
	return append([]byte{}, bytesAt(base, offset)...)
}

// optionAt reads an option<string>; nothing is "".
func optionAt(base unsafe.Pointer, offset uintptr) string {
	if at[uint8](base, offset) == 0 {
		return ""
	}
	return stringAt(base, offset+4)
}

// listAt reads a list whose elements have this size.
func listAt[T any](base unsafe.Pointer, offset, size uintptr, read func(unsafe.Pointer) T) []T {
	first, length := pointer(at[uint32](base, offset)), at[uint32](base, offset+4)
	list := make([]T, length)
	for i := range list {
		list[i] = read(unsafe.Add(first, uintptr(i)*size))
	}
	return list
}

// text is an argument: where a string stands. The caller keeps the string alive; strings of an import call are its arguments.
func text(s string) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))
}

func octets(b []byte) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b))
}

// putText writes a string for the host and keeps it alive until the next export is called.
func putText(base unsafe.Pointer, offset uintptr, s string) {
	scratch = append(scratch, s)
	put(base, offset, uint32(uintptr(unsafe.Pointer(unsafe.StringData(s)))))
	put(base, offset+4, uint32(len(s)))
}

func putOctets(base unsafe.Pointer, offset uintptr, b []byte) {
	scratch = append(scratch, b)
	put(base, offset, uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))))
	put(base, offset+4, uint32(len(b)))
}

func putOption(base unsafe.Pointer, offset uintptr, s string) {
	put(base, offset, bit(s != ""))
	putText(base, offset+4, s)
}

// block is memory for the host to read, kept alive until the next export is called.
func block(size uintptr) unsafe.Pointer {
	words := make([]uint64, size/8+1)
	scratch = append(scratch, words)
	return unsafe.Pointer(&words[0])
}

// list writes a list's elements one after the other; the two numbers are the list, as an argument.
func list[T any](items []T, size uintptr, write func(unsafe.Pointer, T)) (unsafe.Pointer, uint32) {
	if len(items) == 0 {
		return nil, 0
	}
	first := block(size * uintptr(len(items)))
	for i, item := range items {
		write(unsafe.Add(first, uintptr(i)*size), item)
	}
	return first, uint32(len(items))
}

func bit(yes bool) uint8 {
	if yes {
		return 1
	}
	return 0
}

// Argument is a string that the host gives to an export.
func Argument(from unsafe.Pointer, length uint32) string {
	return string(unsafe.Slice((*byte)(from), length))
}
