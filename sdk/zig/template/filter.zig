//! Keeps payment card numbers from leaving by mistake: what users who have logged in send is looked through, and a message with a number
//! that has the form and the check digit of a card is held for an operator, or refused.
//!
//! Stage message. No grants. Settings, all of them optional:
//!
//!     [plugin.card-numbers.config]
//!     numbers = 1          # so many make it a matter
//!     refuse = false       # true: the user is told; false: the message is held

const std = @import("std");
const waypost = @import("waypost.zig");

const Settings = struct { numbers: u32 = 1, refuse: bool = false };
var config: Settings = .{};

/// Called once. An error is read by an operator.
pub fn init() !waypost.Registration {
    config = waypost.settings(Settings) catch return waypost.fail("the settings are numbers (a whole number) and refuse (true or false)");
    if (config.numbers == 0) return waypost.fail("numbers must be at least 1");
    return .{ .name = "card-numbers", .version = "0.1.0", .only_authenticated = true };
}

/// The message is complete and waits for its reply.
pub fn onMessage() !waypost.Action {
    var scanner: Scanner = .{};
    for (waypost.parts()) |part| {
        if (std.mem.startsWith(u8, part.mime_type.slice(), "text/")) scan(&scanner, part);
    }
    if (scanner.found < config.numbers) return .next;
    const reason = try std.fmt.allocPrint(waypost.allocator, "{d} payment card number(s) in the text", .{scanner.found});
    waypost.addFact("CARD_NUMBERS", 0, reason);
    if (!config.refuse) return .{ .quarantine = reason };
    const text = "Your message seems to contain payment card numbers, which must not be sent by mail";
    return .{ .reject = .{ .code = 550, .status = .{ 5, 7, 1 }, .text = text } };
}

var buffer: [32 << 10]u8 = undefined;

/// In pieces: a text of any size costs no more memory than one of them.
fn scan(scanner: *Scanner, part: waypost.Part) void {
    var offset: u64 = 0;
    while (true) {
        const text = waypost.readPart(part, offset, &buffer);
        for (text) |octet| scanner.take(octet);
        if (text.len < buffer.len) break;
        offset += text.len;
    }
    scanner.end();
}

/// Finds runs of 13 to 19 digits, single blanks and hyphens between them.
const Scanner = struct {
    digits: [19]u8 = undefined,
    count: usize = 0,
    gap: bool = false,
    found: u32 = 0,

    fn take(self: *Scanner, octet: u8) void {
        switch (octet) {
            '0'...'9' => {
                if (self.count < self.digits.len) self.digits[self.count] = octet - '0';
                self.count +|= 1;
                self.gap = false;
            },
            ' ', '-' => {
                if (self.gap) self.end();
                self.gap = self.count > 0;
            },
            else => if (self.count > 0) self.end(),
        }
    }

    fn end(self: *Scanner) void {
        if (self.count >= 13 and self.count <= self.digits.len and isCard(self.digits[0..self.count])) self.found +|= 1;
        self.count = 0;
        self.gap = false;
    }
};

/// First digits of the card schemes, and the check digit of ISO/IEC 7812 (Luhn).
fn isCard(digits: []const u8) bool {
    if (digits[0] < 2 or digits[0] > 6) return false;
    var sum: u32 = 0;
    for (digits, 0..) |digit, i| {
        const twice = (digits.len - i) % 2 == 0;
        sum += if (!twice) digit else if (digit > 4) 2 * digit - 9 else 2 * digit;
    }
    return sum % 10 == 0;
}

comptime {
    waypost.plugin(@This());
}
pub const panic = waypost.panic;
