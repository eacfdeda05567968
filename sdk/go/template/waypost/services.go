package waypost

import (
	"fmt"
	"unsafe"
)

// What needs a grant: key-value store, DNS, tables, signatures, HTTP. Functions that nobody calls are not in the component.

//go:wasmimport waypost:plugin/kv@0.1.0 get
func kvGet(key unsafe.Pointer, n uint32, out unsafe.Pointer)

//go:wasmimport waypost:plugin/kv@0.1.0 get-many
func kvGetMany(keys unsafe.Pointer, n uint32, out unsafe.Pointer)

//go:wasmimport waypost:plugin/kv@0.1.0 set
func kvSet(key unsafe.Pointer, n uint32, value unsafe.Pointer, m uint32, some int32, ttl uint32)

//go:wasmimport waypost:plugin/kv@0.1.0 incr
func kvIncr(key unsafe.Pointer, n uint32, delta int64, some int32, ttl uint32) int64

//go:wasmimport waypost:plugin/kv@0.1.0 cas
func kvCas(key unsafe.Pointer, n uint32, someOld int32, old unsafe.Pointer, o uint32, new unsafe.Pointer, m uint32, some int32, ttl uint32) int32

// KVGet reads this plugin's own store.
func KVGet(key string) (value []byte, ok bool) {
	out := call()
	k, n := text(key)
	kvGet(k, n, out)
	if at[uint8](out, 0) == 0 {
		return nil, false
	}
	return copyAt(out, 4), true
}

// KVGetMany reads many in one call; what is not there is nil.
func KVGetMany(keys []string) [][]byte {
	first, n := list(keys, 8, func(to unsafe.Pointer, key string) { putText(to, 0, key) })
	out := call()
	kvGetMany(first, n, out)
	return listAt(out, 0, 12, func(from unsafe.Pointer) []byte {
		if at[uint8](from, 0) == 0 {
			return nil
		}
		return copyAt(from, 4)
	})
}

// KVSet writes; after ttl seconds it is gone, unless ttl is 0.
func KVSet(key string, value []byte, ttl uint32) {
	k, n := text(key)
	v, m := octets(value)
	kvSet(k, n, v, m, int32(bit(ttl != 0)), ttl)
}

// KVIncr adds to a counter and gives its value. Nobody can come between.
func KVIncr(key string, delta int64, ttl uint32) int64 {
	k, n := text(key)
	return kvIncr(k, n, delta, int32(bit(ttl != 0)), ttl)
}

// KVSwap writes if the value is still old (nil: if there is none), and says whether it was.
func KVSwap(key string, old, value []byte, ttl uint32) bool {
	k, n := text(key)
	o, on := octets(old)
	v, m := octets(value)
	return kvCas(k, n, int32(bit(old != nil)), o, on, v, m, int32(bit(ttl != 0)), ttl) != 0
}

// RecordType is a DNS record's type.
type RecordType uint8

// The types.
const (
	A RecordType = iota
	AAAA
	MX
	TXT
	PTR
	TLSA
	CNAME
	NS
	SRV
)

// Query is a question to DNS.
type Query struct {
	Name string
	Type RecordType
}

// DNS is an answer. Records are as in a zone file: MX is "10 mx.example.com".
type DNS struct {
	Records []string
	TTL     uint32
	DNSSEC  bool
	Err     DNSError
}

// DNSError is why there are no records; 0 is no error.
type DNSError uint8

// The errors.
const (
	NXDomain DNSError = iota + 1
	NoData
	ServFail
	Timeout
	Refused
	Budget
)

// Error makes DNSError an error.
func (e DNSError) Error() string {
	return [...]string{"no error", "no such name", "no such record", "server failure", "timeout", "refused", "budget used up"}[e]
}

//go:wasmimport waypost:plugin/dns@0.1.0 lookup-many
func dnsLookupMany(queries unsafe.Pointer, n uint32, out unsafe.Pointer)

// Lookup asks all of them at once.
func Lookup(queries ...Query) []DNS {
	first, n := list(queries, 12, func(to unsafe.Pointer, q Query) {
		putText(to, 0, q.Name)
		put(to, 8, uint8(q.Type))
	})
	out := call()
	dnsLookupMany(first, n, out)
	return listAt(out, 0, 20, func(from unsafe.Pointer) DNS {
		if at[uint8](from, 0) != 0 {
			return DNS{Err: DNSError(at[uint8](from, 4) + 1)}
		}
		records := listAt(from, 4, 8, func(from unsafe.Pointer) string { return stringAt(from, 0) })
		return DNS{Records: records, TTL: at[uint32](from, 12), DNSSEC: at[uint8](from, 16) != 0}
	})
}

//go:wasmimport waypost:plugin/tables@0.1.0 lookup
func tablesLookup(table unsafe.Pointer, n uint32, key unsafe.Pointer, m uint32, out unsafe.Pointer)

//go:wasmimport waypost:plugin/tables@0.1.0 contains-cidr
func tablesContains(table unsafe.Pointer, n uint32, ip unsafe.Pointer, m uint32) int32

// Table looks a key up in a table of the configuration.
func Table(table, key string) (value string, ok bool) {
	out := call()
	t, n := text(table)
	k, m := text(key)
	tablesLookup(t, n, k, m, out)
	return optionAt(out, 0), at[uint8](out, 0) != 0
}

// TableContains says whether one of the table's networks contains the address.
func TableContains(table, ip string) bool {
	t, n := text(table)
	i, m := text(ip)
	return tablesContains(t, n, i, m) != 0
}

//go:wasmimport waypost:plugin/crypto@0.1.0 sign
func cryptoSign(key unsafe.Pointer, n uint32, digest unsafe.Pointer, m uint32, out unsafe.Pointer)

//go:wasmimport waypost:plugin/crypto@0.1.0 hmac
func cryptoHMAC(key unsafe.Pointer, n uint32, data unsafe.Pointer, m uint32, out unsafe.Pointer)

//go:wasmimport waypost:plugin/crypto@0.1.0 random
func cryptoRandom(n uint32, out unsafe.Pointer)

// Sign asks for a signature with a named key, which stays with the host.
func Sign(key string, digest []byte) ([]byte, error) { return secret(key, digest, cryptoSign) }

// HMAC is HMAC-SHA-256 with a named key, which stays with the host.
func HMAC(key string, data []byte) ([]byte, error) { return secret(key, data, cryptoHMAC) }

func secret(key string, data []byte, ask func(unsafe.Pointer, uint32, unsafe.Pointer, uint32, unsafe.Pointer)) ([]byte, error) {
	out := call()
	k, n := text(key)
	d, m := octets(data)
	ask(k, n, d, m, out)
	if err := errorAt(out); err != nil {
		return nil, err
	}
	return copyAt(out, 4), nil
}

// Random are octets that nobody can guess. Do not take Go's own: they are the same in every instance.
func Random(n uint32) []byte {
	out := call()
	cryptoRandom(n, out)
	return copyAt(out, 0)
}

// Request is an HTTP request to an address that the configuration allows.
type Request struct {
	Method, URL   string
	Headers       []Field
	Body          []byte
	TimeoutMillis uint32
}

// Response is the answer to it.
type Response struct {
	Status  uint16
	Headers []Field
	Body    []byte
}

//go:wasmimport waypost:plugin/http@0.1.0 fetch-many
func httpFetchMany(requests unsafe.Pointer, n uint32, out unsafe.Pointer)

// Fetch asks one.
func Fetch(request Request) (Response, error) {
	first, n := list([]Request{request}, 36, func(to unsafe.Pointer, r Request) {
		fields, count := list(r.Headers, 16, func(to unsafe.Pointer, field Field) {
			putText(to, 0, field.Name)
			putText(to, 8, field.Value)
		})
		putText(to, 0, r.Method)
		putText(to, 8, r.URL)
		put(to, 16, uint32(uintptr(fields)))
		put(to, 20, count)
		putOctets(to, 24, r.Body)
		put(to, 32, r.TimeoutMillis)
	})
	out := call()
	httpFetchMany(first, n, out)
	if at[uint32](out, 4) != 1 {
		return Response{}, fmt.Errorf("the host gave no answer")
	}
	answer := pointer(at[uint32](out, 0))
	if err := errorAt(answer); err != nil {
		return Response{}, err
	}
	fields := listAt(answer, 8, 16, func(from unsafe.Pointer) Field { return Field{stringAt(from, 0), stringAt(from, 8)} })
	return Response{at[uint16](answer, 4), fields, copyAt(answer, 16)}, nil
}
