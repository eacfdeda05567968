package waypost

import "unsafe"

// What every plugin may ask: session, envelope, message, findings of mail authentication, facts, settings, log.

// Transport is how the client came.
type Transport int32

// The transports.
const (
	SMTP Transport = iota
	SMTPS
	Submission
	LMTP
	Local
)

// Recipient is one recipient. ORcpt and Notify are "" where the client gave none.
type Recipient struct{ Address, Domain, ORcpt, Notify string }

// Part is a MIME part that is no container.
type Part struct {
	Path, MIMEType, Filename string
	Size                     uint64
	Disposition              string
}

// Finding is what the host found out about SPF, DKIM, DMARC, ARC or iprev.
type Finding struct{ Method, Result, Domain, Selector, Detail string }

// Fact is a symbol and its weight.
type Fact struct {
	Symbol string
	Weight float64
}

// Field is a header field.
type Field struct{ Name, Value string }

// Level is how important a log line is.
type Level int32

// The levels.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
)

// Session.

//go:wasmimport waypost:plugin/session@0.1.0 id
func sessionID(out unsafe.Pointer)

//go:wasmimport waypost:plugin/session@0.1.0 transport
func sessionTransport() int32

//go:wasmimport waypost:plugin/session@0.1.0 client-ip
func sessionClientIP(out unsafe.Pointer)

//go:wasmimport waypost:plugin/session@0.1.0 client-port
func sessionClientPort() int32

//go:wasmimport waypost:plugin/session@0.1.0 helo
func sessionHelo(out unsafe.Pointer)

//go:wasmimport waypost:plugin/session@0.1.0 ptr-name
func sessionPTRName(out unsafe.Pointer)

//go:wasmimport waypost:plugin/session@0.1.0 tls
func sessionTLS(out unsafe.Pointer)

//go:wasmimport waypost:plugin/session@0.1.0 auth-user
func sessionAuthUser(out unsafe.Pointer)

//go:wasmimport waypost:plugin/session@0.1.0 get-var
func sessionGetVar(key unsafe.Pointer, keyLen uint32, out unsafe.Pointer)

//go:wasmimport waypost:plugin/session@0.1.0 set-var
func sessionSetVar(key unsafe.Pointer, keyLen uint32, value unsafe.Pointer, valueLen uint32)

func stringOf(ask func(unsafe.Pointer)) string {
	out := call()
	ask(out)
	return stringAt(out, 0)
}

func optionOf(ask func(unsafe.Pointer)) string {
	out := call()
	ask(out)
	return optionAt(out, 0)
}

// SessionID is the id that log lines of this connection have.
func SessionID() string { return stringOf(sessionID) }

// Via is how the client came.
func Via() Transport { return Transport(sessionTransport()) }

// ClientIP is the client's address, in its canonical form.
func ClientIP() string { return stringOf(sessionClientIP) }

// ClientPort is the client's port.
func ClientPort() uint16 { return uint16(sessionClientPort()) }

// Helo is the name that the client gave itself.
func Helo() string { return stringOf(sessionHelo) }

// PTRName is the client's name as DNS confirms it both ways, or "".
func PTRName() string { return optionOf(sessionPTRName) }

// TLS is protocol and cipher suite, or "".
func TLS() string { return optionOf(sessionTLS) }

// AuthUser is who has logged in, or "".
func AuthUser() string { return optionOf(sessionAuthUser) }

// Var is this plugin's own variable of the connection. Sessions share an instance, so what belongs to one goes here.
func Var(key string) (value []byte, ok bool) {
	out := call()
	k, n := text(key)
	sessionGetVar(k, n, out)
	if at[uint8](out, 0) == 0 {
		return nil, false
	}
	return copyAt(out, 4), true
}

// SetVar sets it.
func SetVar(key string, value []byte) {
	k, n := text(key)
	v, m := octets(value)
	sessionSetVar(k, n, v, m)
}

// Envelope.

//go:wasmimport waypost:plugin/envelope@0.1.0 sender
func envelopeSender(out unsafe.Pointer)

//go:wasmimport waypost:plugin/envelope@0.1.0 recipients
func envelopeRecipients(out unsafe.Pointer)

//go:wasmimport waypost:plugin/envelope@0.1.0 recipient-count
func envelopeRecipientCount() int32

//go:wasmimport waypost:plugin/envelope@0.1.0 add-recipient
func envelopeAddRecipient(address unsafe.Pointer, n uint32, out unsafe.Pointer)

//go:wasmimport waypost:plugin/envelope@0.1.0 remove-recipient
func envelopeRemoveRecipient(address unsafe.Pointer, n uint32, out unsafe.Pointer)

//go:wasmimport waypost:plugin/envelope@0.1.0 set-sender
func envelopeSetSender(address unsafe.Pointer, n uint32, out unsafe.Pointer)

// Sender is the envelope's; "" is the null sender.
func Sender() string { return stringOf(envelopeSender) }

// Recipients are those that were accepted so far.
func Recipients() []Recipient {
	out := call()
	envelopeRecipients(out)
	return listAt(out, 0, 40, recipientAt)
}

func recipientAt(from unsafe.Pointer) Recipient {
	return Recipient{stringAt(from, 0), stringAt(from, 8), optionAt(from, 16), optionAt(from, 28)}
}

// RecipientAt is for the packages of the stages: a recipient in a list that the host gave.
func RecipientAt(first unsafe.Pointer, i int) Recipient {
	return recipientAt(unsafe.Add(first, 40*uintptr(i)))
}

// RecipientCount is how many there are.
func RecipientCount() int { return int(envelopeRecipientCount()) }

// AddRecipient needs the grant rewrite, as the next two do.
func AddRecipient(address string) error { return change(address, envelopeAddRecipient) }

// RemoveRecipient takes one out.
func RemoveRecipient(address string) error { return change(address, envelopeRemoveRecipient) }

// SetSender replaces the envelope's sender.
func SetSender(address string) error { return change(address, envelopeSetSender) }

func change(address string, ask func(unsafe.Pointer, uint32, unsafe.Pointer)) error {
	out := call()
	a, n := text(address)
	ask(a, n, out)
	return errorAt(out)
}

// errorAt reads a result<_, string>.
func errorAt(out unsafe.Pointer) error {
	if at[uint8](out, 0) == 0 {
		return nil
	}
	return hostError(stringAt(out, 4))
}

type hostError string

func (e hostError) Error() string { return string(e) }

// Message.

//go:wasmimport waypost:plugin/message@0.1.0 size
func messageSize() int64

//go:wasmimport waypost:plugin/message@0.1.0 header
func messageHeader(name unsafe.Pointer, n uint32, out unsafe.Pointer)

//go:wasmimport waypost:plugin/message@0.1.0 headers
func messageHeaders(out unsafe.Pointer)

//go:wasmimport waypost:plugin/message@0.1.0 read
func messageRead(offset int64, length uint32, out unsafe.Pointer)

//go:wasmimport waypost:plugin/message@0.1.0 parts
func messageParts(out unsafe.Pointer)

//go:wasmimport waypost:plugin/message@0.1.0 read-part
func messageReadPart(path unsafe.Pointer, n uint32, offset int64, length uint32, out unsafe.Pointer)

//go:wasmimport waypost:plugin/message@0.1.0 add-header
func messageAddHeader(name unsafe.Pointer, n uint32, value unsafe.Pointer, m uint32)

//go:wasmimport waypost:plugin/message@0.1.0 prepend-header
func messagePrependHeader(name unsafe.Pointer, n uint32, value unsafe.Pointer, m uint32)

//go:wasmimport waypost:plugin/message@0.1.0 remove-header
func messageRemoveHeader(name unsafe.Pointer, n uint32, some int32, nth int32)

//go:wasmimport waypost:plugin/message@0.1.0 replace-body
func messageReplaceBody(data unsafe.Pointer, n uint32, out unsafe.Pointer)

// Size is the message's, in octets.
func Size() uint64 { return uint64(messageSize()) }

// Header gives every field of that name, unfolded.
func Header(name string) []string {
	out := call()
	k, n := text(name)
	messageHeader(k, n, out)
	return listAt(out, 0, 8, func(from unsafe.Pointer) string { return stringAt(from, 0) })
}

// Headers are all fields.
func Headers() []Field {
	out := call()
	messageHeaders(out)
	return listAt(out, 0, 16, func(from unsafe.Pointer) Field { return Field{stringAt(from, 0), stringAt(from, 8)} })
}

// Read reads the message as it came. Less than length is the end.
func Read(offset uint64, length uint32) []byte {
	out := call()
	messageRead(int64(offset), length, out)
	return copyAt(out, 0)
}

// Parts are the message's MIME parts.
func Parts() []Part {
	out := call()
	messageParts(out)
	return listAt(out, 0, 56, func(from unsafe.Pointer) Part {
		return Part{stringAt(from, 0), stringAt(from, 8), optionAt(from, 16), at[uint64](from, 32), optionAt(from, 40)}
	})
}

// ReadPart reads a part: decoded, and as UTF-8 if it is a text. Less than length is the end.
func ReadPart(path string, offset uint64, length uint32) []byte {
	out := call()
	p, n := text(path)
	messageReadPart(p, n, int64(offset), length, out)
	return copyAt(out, 0)
}

// AddHeader puts a field at the end of the header block. Edits take effect when the stage's answer is no error.
func AddHeader(name, value string) {
	k, n := text(name)
	v, m := text(value)
	messageAddHeader(k, n, v, m)
}

// PrependHeader puts a field in front of everything.
func PrependHeader(name, value string) {
	k, n := text(name)
	v, m := text(value)
	messagePrependHeader(k, n, v, m)
}

// RemoveHeader removes every field of that name.
func RemoveHeader(name string) {
	k, n := text(name)
	messageRemoveHeader(k, n, 0, 0)
}

// ReplaceBody needs the grant rewrite.
func ReplaceBody(data []byte) error {
	out := call()
	d, n := octets(data)
	messageReplaceBody(d, n, out)
	return errorAt(out)
}

// Findings of mail authentication, and facts.

//go:wasmimport waypost:plugin/auth-results@0.1.0 entries
func authEntries(out unsafe.Pointer)

//go:wasmimport waypost:plugin/scores@0.1.0 add
func scoresAdd(symbol unsafe.Pointer, n uint32, weight float64, some int32, detail unsafe.Pointer, m uint32)

//go:wasmimport waypost:plugin/scores@0.1.0 total
func scoresTotal() float64

//go:wasmimport waypost:plugin/scores@0.1.0 symbols
func scoresSymbols(out unsafe.Pointer)

// Findings are what the host knows of SPF, DKIM, DMARC, ARC and the client's name.
func Findings() []Finding {
	out := call()
	authEntries(out)
	return listAt(out, 0, 52, func(from unsafe.Pointer) Finding {
		return Finding{stringAt(from, 0), stringAt(from, 8), optionAt(from, 16), optionAt(from, 28), optionAt(from, 40)}
	})
}

// AddFact states a fact, for spam-score and the operator to weigh. detail may be "".
func AddFact(symbol string, weight float64, detail string) {
	k, n := text(symbol)
	d, m := text(detail)
	scoresAdd(k, n, weight, int32(bit(detail != "")), d, m)
}

// FactsTotal is the sum of all weights.
func FactsTotal() float64 { return scoresTotal() }

// Facts are those that were stated so far, by whomever.
func Facts() []Fact {
	out := call()
	scoresSymbols(out)
	return listAt(out, 0, 16, func(from unsafe.Pointer) Fact { return Fact{stringAt(from, 0), at[float64](from, 8)} })
}

// HasFact says whether it was stated.
func HasFact(symbol string) bool {
	for _, fact := range Facts() {
		if fact.Symbol == symbol {
			return true
		}
	}
	return false
}

// Environment.

//go:wasmimport waypost:plugin/env@0.1.0 log
func envLog(level int32, line unsafe.Pointer, n uint32)

//go:wasmimport waypost:plugin/env@0.1.0 metric-add
func envMetricAdd(name unsafe.Pointer, n uint32, delta float64)

//go:wasmimport waypost:plugin/env@0.1.0 config
func envConfig(out unsafe.Pointer)

//go:wasmimport waypost:plugin/env@0.1.0 now-ms
func envNowMillis() int64

//go:wasmimport waypost:plugin/env@0.1.0 granted
func envGranted(name unsafe.Pointer, n uint32) int32

// Log writes a line to the server's log.
func Log(level Level, line string) {
	l, n := text(line)
	envLog(int32(level), l, n)
}

// Count adds to a metric of this plugin.
func Count(metric string, delta float64) {
	k, n := text(metric)
	envMetricAdd(k, n, delta)
}

// Config is the plugin's section of the configuration, as JSON. See [Settings].
func Config() string { return stringOf(envConfig) }

// NowMillis is the time, in milliseconds since 1970; it stands still during a call. Go's own clock does not run in here.
func NowMillis() uint64 { return uint64(envNowMillis()) }

// Granted says whether an interface ("kv", "dns") may be used.
func Granted(name string) bool {
	k, n := text(name)
	return envGranted(k, n) != 0
}
