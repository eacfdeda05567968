// How values cross the border between the host and this component: the canonical ABI of the component model, with texts in UTF-16, which
// is what AssemblyScript's strings are. Whoever writes a filter need not read this page.
//
// What the host gives is written into memory that it asks cabi_realloc for. Everything is copied out of there before the next call of an
// import, so the memory is used again and again.

const ARENA: usize = 64 << 10;
const arena: usize = heap.alloc(ARENA);
/** Where the host writes the results of an import, and where we write those of an export. */
export const area: usize = heap.alloc(64);
let used: usize = 0;
let blocks: usize[] = [];

export function cabi_realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  const start = (used + align - 1) & ~(align - 1);
  if (start + size <= ARENA) {
    used = start + size;
    return arena + start;
  }
  const block = heap.alloc(size);
  blocks.push(block);
  return block;
}

/** What the host gave is copied: its memory may be used again. */
export function forget(): void {
  used = 0;
  while (blocks.length > 0) heap.free(blocks.pop());
}

/** Before an import that gives something: where the host shall write it. */
export function call(): usize {
  forget();
  return area;
}

/** At the begin of an export, when nothing of the call before is needed any more. */
export function enter(): void {
  kept = [];
  __collect();
}

/** Texts that the host reads after an export has returned. */
let kept: string[] = [];

export function text(from: usize, units: usize): string {
  return String.UTF16.decodeUnsafe(from, units << 1);
}

export function textAt(base: usize, offset: usize): string {
  return text(load<u32>(base + offset), load<u32>(base + offset + 4));
}

/** An option<string>; nothing is "". */
export function optionAt(base: usize, offset: usize): string {
  return load<u8>(base + offset) == 0 ? "" : textAt(base, offset + 4);
}

export function textsAt(base: usize, offset: usize): string[] {
  const first: usize = load<u32>(base + offset);
  const list = new Array<string>(load<u32>(base + offset + 4));
  for (let i = 0; i < list.length; i++) list[i] = textAt(first + 8 * i, 0);
  return list;
}

export function octetsAt(base: usize, offset: usize): Uint8Array {
  const length = load<u32>(base + offset + 4);
  const copy = new Uint8Array(length);
  memory.copy(copy.dataStart, load<u32>(base + offset), length);
  return copy;
}

export function putText(base: usize, offset: usize, value: string): void {
  kept.push(value);
  store<u32>(base + offset, changetype<usize>(value));
  store<u32>(base + offset + 4, value.length);
}

// @ts-ignore: a decorator of AssemblyScript
@external("waypost:plugin/env@0.1.0", "log")
declare function envLog(level: i32, text: usize, units: i32): void;

/** A failed assertion, or an index outside: the last words are for the log. */
export function abort(reason: string | null, file: string | null, line: u32, column: u32): void {
  const words = (reason ? reason : "aborted") + " (" + (file ? file : "") + ":" + line.toString() + ")";
  envLog(4, changetype<usize>(words), words.length);
  unreachable();
}
