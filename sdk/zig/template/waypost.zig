//! Waypost's contract as Zig says it: the answers, what the host can be asked, and how a plugin's functions become the exports of a
//! component. The `extern struct`s are the canonical ABI's records, which lie in memory as a C compiler lays them.
//!
//! Memory: `allocator` gives memory that lives until the stage has been answered, and so do texts and lists of the host. What shall
//! live longer belongs to `std.heap.wasm_allocator`.

const std = @import("std");

var arena = std.heap.ArenaAllocator.init(std.heap.wasm_allocator);
/// A stage was answered, and the host has read the answer when it calls again.
var over = false;
/// Memory until the stage has been answered.
pub const allocator = arena.allocator();

/// A text as the host knows it.
pub const Text = extern struct {
    at: [*]const u8 = undefined,
    len: u32 = 0,

    pub fn of(text: []const u8) Text {
        return .{ .at = text.ptr, .len = @intCast(text.len) };
    }
    pub fn slice(self: Text) []const u8 {
        return if (self.len == 0) "" else self.at[0..self.len];
    }
};

/// A text or nothing.
pub const Option = extern struct {
    some: bool = false,
    text: Text = .{},

    pub fn slice(self: Option) ?[]const u8 {
        return if (self.some) self.text.slice() else null;
    }
};

fn List(comptime T: type) type {
    return extern struct {
        at: [*]const T = undefined,
        len: u32 = 0,

        fn slice(self: @This()) []const T {
            return if (self.len == 0) &.{} else self.at[0..self.len];
        }
    };
}

/// A MIME part that is no container.
pub const Part = extern struct { path: Text, mime_type: Text, filename: Option, size: u64, disposition: Option };

/// One recipient.
pub const Recipient = extern struct { address: Text, domain: Text, orcpt: Option, notify: Option };

/// What a stage answers.
pub const Action = union(enum) {
    /// No opinion: the next plugin is asked.
    next,
    /// Ends this stage's chain: no later plugin is asked.
    accept,
    /// Refuses for good, with 5xx.
    reject: Reply,
    /// Asks the client to come back, with 4xx.
    tempfail: Reply,
    /// Accepts on the wire, and drops.
    discard,
    /// Holds the message for an operator.
    quarantine: []const u8,
    /// Says this and closes.
    disconnect: Reply,
    /// Asks the client to come back after so many seconds.
    later: u32,
};

/// A reply: `.{ .code = 550, .status = .{ 5, 7, 1 }, .text = "…" }`.
pub const Reply = struct { code: u16, status: struct { u8, u8, u16 }, text: []const u8 };

/// What a plugin says of itself, and how it narrows what it is asked.
pub const Registration = struct {
    name: []const u8,
    version: []const u8,
    only_inbound: bool = false,
    only_authenticated: bool = false,
    /// Skips larger messages.
    max_size: ?u64 = null,
};

const host = struct {
    extern "waypost:plugin/session@0.1.0" fn @"client-ip"(out: *Text) void;
    extern "waypost:plugin/session@0.1.0" fn @"auth-user"(out: *Option) void;
    extern "waypost:plugin/envelope@0.1.0" fn sender(out: *Text) void;
    extern "waypost:plugin/message@0.1.0" fn parts(out: *List(Part)) void;
    extern "waypost:plugin/message@0.1.0" fn header(name: [*]const u8, len: usize, out: *List(Text)) void;
    extern "waypost:plugin/message@0.1.0" fn @"read-part"(path: [*]const u8, len: usize, offset: u64, length: u32, out: *Text) void;
    extern "waypost:plugin/message@0.1.0" fn @"add-header"(name: [*]const u8, n: usize, value: [*]const u8, m: usize) void;
    extern "waypost:plugin/scores@0.1.0" fn add(symbol: [*]const u8, n: usize, weight: f64, some: i32, detail: [*]const u8, m: usize) void;
    extern "waypost:plugin/kv@0.1.0" fn incr(key: [*]const u8, len: usize, delta: i64, some: i32, ttl: u32) i64;
    extern "waypost:plugin/env@0.1.0" fn log(level: i32, line: [*]const u8, len: usize) void;
    extern "waypost:plugin/env@0.1.0" fn config(out: *Text) void;
    extern "waypost:plugin/env@0.1.0" fn @"now-ms"() u64;
};

/// The client's address.
pub fn clientIp() []const u8 {
    var out: Text = .{};
    host.@"client-ip"(&out);
    return out.slice();
}

/// Who has logged in.
pub fn authUser() ?[]const u8 {
    var out: Option = .{};
    host.@"auth-user"(&out);
    return out.slice();
}

/// The envelope's sender; "" is the null sender.
pub fn sender() []const u8 {
    var out: Text = .{};
    host.sender(&out);
    return out.slice();
}

/// The message's MIME parts.
pub fn parts() []const Part {
    var out: List(Part) = .{};
    host.parts(&out);
    return out.slice();
}

/// Every field of that name, unfolded.
pub fn header(name: []const u8) []const Text {
    var out: List(Text) = .{};
    host.header(name.ptr, name.len, &out);
    return out.slice();
}

/// Reads a piece of a part into the buffer: decoded, and as UTF-8 if it is a text. Less than fits is the end.
pub fn readPart(part: Part, offset: u64, buffer: []u8) []const u8 {
    var out: Text = .{};
    landing = buffer;
    defer landing = &.{};
    host.@"read-part"(part.path.at, part.path.len, offset, @intCast(buffer.len), &out);
    return out.slice();
}

/// Where the host shall write what it gives next, if it fits.
var landing: []u8 = &.{};

/// Puts a field at the end of the header block. Edits take effect when the stage's answer is no error.
pub fn addHeader(name: []const u8, value: []const u8) void {
    host.@"add-header"(name.ptr, name.len, value.ptr, value.len);
}

/// States a fact, for spam-score and the operator to weigh.
pub fn addFact(symbol: []const u8, weight: f64, detail: []const u8) void {
    host.add(symbol.ptr, symbol.len, weight, 1, detail.ptr, detail.len);
}

/// Grant kv: adds to a counter and gives its value; it is gone so many seconds after the last addition.
pub fn increment(key: []const u8, delta: i64, ttl: u32) i64 {
    return host.incr(key.ptr, key.len, delta, 1, ttl);
}

/// Writes a line to the server's log.
pub fn log(line: []const u8) void {
    host.log(2, line.ptr, line.len);
}

/// Milliseconds since 1970; stands still during a call.
pub fn nowMs() u64 {
    return host.@"now-ms"();
}

/// The plugin's section of the configuration. A setting that the structure does not have is an error.
pub fn settings(comptime T: type) !T {
    var out: Text = .{};
    host.config(&out);
    const text = try std.heap.wasm_allocator.dupe(u8, out.slice());
    return std.json.parseFromSliceLeaky(T, std.heap.wasm_allocator, text, .{});
}

/// The text of an error, where its name alone says too little: `return waypost.fail("strict needs domains")`.
pub fn fail(text: []const u8) error{Told} {
    told = text;
    return error.Told;
}
var told: []const u8 = "";

fn reason(problem: anyerror) Text {
    return Text.of(if (problem == error.Told) told else @errorName(problem));
}

/// A panic's last words are for the log.
pub const panic = std.debug.FullPanic(struct {
    fn last(words: []const u8, _: ?usize) noreturn {
        host.log(4, words.ptr, words.len);
        @trap();
    }
}.last);

// The way to the host. Whoever writes a filter need not read on.

const Wire = extern struct {
    failed: bool = false,
    is: extern union {
        action: extern struct {
            kind: u8,
            is: extern union {
                reply: extern struct { code: u16, class: u8, subject: u8, detail: u16, text: Text },
                text: Text,
                seconds: u32,
            },
        },
        failure: Text,
    },
};

const Registered = extern struct {
    failed: bool = false,
    is: extern union {
        registration: extern struct {
            name: Text,
            version: Text,
            rcpt_domains: List(Text) = .{},
            only_inbound: bool,
            only_authenticated: bool,
            max_size: extern struct { some: bool, size: u64 },
            body: u8 = 0,
            preview_bytes: u32 = 0,
        },
        failure: Text,
    },
};

comptime {
    std.debug.assert(@sizeOf(Part) == 56 and @sizeOf(Recipient) == 40);
    std.debug.assert(@sizeOf(Wire) == 24 and @sizeOf(Registered) == 64);
}

var wire: Wire = undefined;
var registered: Registered = undefined;

fn cabiRealloc(old: ?[*]u8, old_size: usize, alignment: usize, size: usize) callconv(.c) ?[*]u8 {
    _ = old;
    std.debug.assert(old_size == 0);
    if (alignment == 1 and size <= landing.len) return landing.ptr;
    enter();
    return arena.allocator().rawAlloc(@max(size, 1), std.mem.Alignment.fromByteUnits(alignment), 0) orelse @panic("out of memory");
}

fn enter() void {
    if (over) _ = arena.reset(.{ .retain_with_limit = 256 << 10 });
    over = false;
}

fn answer(outcome: anyerror!Action) *const Wire {
    over = true;
    const action = outcome catch |problem| {
        wire = .{ .failed = true, .is = .{ .failure = reason(problem) } };
        return &wire;
    };
    const kind: u8 = @intFromEnum(action);
    wire = .{ .is = .{ .action = .{ .kind = kind, .is = switch (action) {
        .reject, .tempfail, .disconnect => |reply| .{ .reply = .{
            .code = reply.code,
            .class = reply.status[0],
            .subject = reply.status[1],
            .detail = reply.status[2],
            .text = Text.of(reply.text),
        } },
        .quarantine => |text| .{ .text = Text.of(text) },
        .later => |seconds| .{ .seconds = seconds },
        .next, .accept, .discard => .{ .seconds = 0 },
    } } } };
    return &wire;
}

/// Makes the exports of a component from a plugin's public functions: `init`, and a function for each stage that it wants.
pub fn plugin(comptime Plugin: type) void {
    const Stages = struct {
        fn init() callconv(.c) *const Registered {
            enter();
            defer over = true;
            const r: Registration = Plugin.init() catch |problem| {
                registered = .{ .failed = true, .is = .{ .failure = reason(problem) } };
                return &registered;
            };
            registered = .{ .is = .{ .registration = .{
                .name = Text.of(r.name),
                .version = Text.of(r.version),
                .only_inbound = r.only_inbound,
                .only_authenticated = r.only_authenticated,
                .max_size = .{ .some = r.max_size != null, .size = r.max_size orelse 0 },
            } } };
            return &registered;
        }
        fn connect() callconv(.c) *const Wire {
            enter();
            return answer(Plugin.onConnect());
        }
        fn helo(at: [*]const u8, len: usize, extended: i32) callconv(.c) *const Wire {
            enter();
            return answer(Plugin.onHelo(at[0..len], extended != 0));
        }
        fn mail(at: [*]const u8, len: usize) callconv(.c) *const Wire {
            enter();
            return answer(Plugin.onMail(at[0..len]));
        }
        fn rcpt(a: [*]const u8, a_len: u32, d: [*]const u8, d_len: u32, o: i32, o_at: [*]const u8, o_len: u32, n: i32, n_at: [*]const u8, n_len: u32) callconv(.c) *const Wire {
            enter();
            const recipient: Recipient = .{
                .address = .{ .at = a, .len = a_len },
                .domain = .{ .at = d, .len = d_len },
                .orcpt = .{ .some = o != 0, .text = .{ .at = o_at, .len = o_len } },
                .notify = .{ .some = n != 0, .text = .{ .at = n_at, .len = n_len } },
            };
            return answer(Plugin.onRcpt(recipient));
        }
        fn data() callconv(.c) *const Wire {
            enter();
            return answer(Plugin.onData());
        }
        fn headers() callconv(.c) *const Wire {
            enter();
            return answer(Plugin.onHeaders());
        }
        fn message() callconv(.c) *const Wire {
            enter();
            return answer(Plugin.onMessage());
        }
    };
    const prefix = "waypost:plugin/";
    @export(&cabiRealloc, .{ .name = "cabi_realloc" });
    @export(&Stages.init, .{ .name = prefix ++ "lifecycle@0.1.0#init" });
    if (@hasDecl(Plugin, "onConnect")) @export(&Stages.connect, .{ .name = prefix ++ "on-connect@0.1.0#connect" });
    if (@hasDecl(Plugin, "onHelo")) @export(&Stages.helo, .{ .name = prefix ++ "on-helo@0.1.0#helo" });
    if (@hasDecl(Plugin, "onMail")) @export(&Stages.mail, .{ .name = prefix ++ "on-mail@0.1.0#mail" });
    if (@hasDecl(Plugin, "onRcpt")) @export(&Stages.rcpt, .{ .name = prefix ++ "on-rcpt@0.1.0#check" });
    if (@hasDecl(Plugin, "onData")) @export(&Stages.data, .{ .name = prefix ++ "on-data@0.1.0#data" });
    if (@hasDecl(Plugin, "onHeaders")) @export(&Stages.headers, .{ .name = prefix ++ "on-headers@0.1.0#headers" });
    if (@hasDecl(Plugin, "onMessage")) @export(&Stages.message, .{ .name = prefix ++ "on-message@0.1.0#message" });
}
