//! The same as main.go, as far as the Zig layer goes.

const std = @import("std");
const waypost = @import("waypost.zig");

pub fn init() !waypost.Registration {
    return .{ .name = "conformance", .version = "1", .max_size = 1 << 20 };
}

fn say(comptime form: []const u8, values: anytype) !void {
    waypost.addHeader("X-Conformance", try std.fmt.allocPrint(waypost.allocator, form, values));
}

pub fn onMail(sender: []const u8) !waypost.Action {
    const text = "not now";
    if (std.mem.eql(u8, sender, "defer@client.example")) return .{ .tempfail = .{ .code = 451, .status = .{ 4, 3, 250 }, .text = text } };
    if (std.mem.eql(u8, sender, "fail@client.example")) return waypost.fail("as was wished");
    return .next;
}

pub fn onRcpt(recipient: waypost.Recipient) !waypost.Action {
    if (std.mem.eql(u8, recipient.address.slice(), "bob@waypost.test")) {
        return .{ .reject = .{ .code = 553, .status = .{ 5, 1, 250 }, .text = "not him" } };
    }
    return .next;
}

pub fn onMessage() !waypost.Action {
    const subject = waypost.header("subject");
    try say("session {s} {any}", .{ waypost.clientIp(), waypost.authUser() != null });
    try say("message {s} {s} {d}", .{ waypost.sender(), subject[0].slice(), waypost.header("None").len });
    for (waypost.parts()) |part| {
        var small: [3]u8 = undefined;
        try say("part {s} {s} {d} {s} [{s}]", .{ part.mime_type.slice(), part.filename.slice() orelse "", part.size, part.disposition.slice() orelse "", std.mem.trim(u8, waypost.readPart(part, 1, &small), "\r\n") });
    }
    waypost.addFact("ONE", 1.5, "why");
    try say("kv {d} {d}", .{ waypost.increment("n", 5, 60), waypost.increment("n", -7, 60) });
    try say("env {any}", .{waypost.nowMs() > 1000000000000});
    return .next;
}

comptime {
    waypost.plugin(@This());
}
pub const panic = waypost.panic;
