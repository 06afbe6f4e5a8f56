/** What a process holds, as its kernel lists it in /proc: for tests that say nothing is left behind. */
import { assert } from "@std/assert";
import { isErrno, readDirectory, readLink, readText } from "../ffi/mod.ts";

/** Each kind of descriptor and of mapping of memory that has no file system, and how many there are. */
export type Holdings = Readonly<Record<string, number>>;

/** Of this process: `"self"`. Sockets, pipes and files come and go with the runtime, too; `of` leaves them out. */
export function holdings(pid: number | "self", of = /./): Holdings {
  const counts: Record<string, number> = {};
  const count = (what: string) => {
    if (of.test(what)) counts[what] = (counts[what] ?? 0) + 1;
  };
  for (const { name } of readDirectory(`/proc/${pid}/fd`)) {
    if (!/^[0-9]+$/.test(name)) continue;
    try {
      count(`fd ${readLink(`/proc/${pid}/fd/${name}`).replace(/:\[\d+\]$/, "")}`);
    } catch (error) {
      // Closed meanwhile.
      if (!isErrno(error, "ENOENT")) throw error;
    }
  }
  for (const line of readText(`/proc/${pid}/maps`).split("\n")) {
    const [, path] = / (\/memfd:.*|anon_inode:.*)$/.exec(line) ?? [];
    if (path !== undefined) count(`map ${path}`);
  }
  return Object.fromEntries(Object.entries(counts).sort(([a], [b]) => a < b ? -1 : 1));
}

/**
 * Once they stay the same for 200 ms. A server lets go of a client a little after the client has closed, and this process
 * of the threads and children of the test before.
 */
export async function settledHoldings(pid: number | "self", of = /./): Promise<Holdings> {
  const QUIET = 10;
  let last = holdings(pid, of);
  for (let same = 0, looks = 0; same < QUIET && looks < 500; looks++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    const now = holdings(pid, of);
    same = JSON.stringify(now) === JSON.stringify(last) ? same + 1 : 0;
    last = now;
  }
  return last;
}

/** Less is no leak: what an earlier test left to the runtime may go meanwhile. */
export function assertNothingLeft(after: Holdings, before: Holdings, message = "is left behind"): void {
  const more = Object.entries(after).filter(([what, n]) => n > (before[what] ?? 0));
  assert(
    more.length === 0,
    `${message}: ${more.map(([what, n]) => `${what}: ${before[what] ?? 0} before, ${n} now`).join("; ")}`,
  );
}
