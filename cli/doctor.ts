/**
 * `ringside doctor`
 *
 * @module
 */
import type { Host } from "../lib/host/mod.ts";
import { EXIT } from "./failure.ts";
import { print, printJson } from "./output.ts";
import type { Of } from "./parser.ts";

const MARK = { ok: "ok      ", warning: "warning ", problem: "PROBLEM " } as const;

/** Examines the host. @returns the exit status: 1 when there is a problem. */
export function doctor(host: Host, options: Of<"doctor">): number {
  const findings = host.examine();
  const problems = findings.filter((one) => one.state === "problem").length;
  if (options.json) {
    printJson({ ready: problems === 0, findings });
  } else {
    for (const one of findings) {
      print(`${MARK[one.state]} ${one.what}: ${one.detail}`);
      if (one.mend !== undefined && one.state !== "ok") print(`          mend: ${one.mend}`);
    }
    print(problems === 0 ? "ready" : `not ready: ${problems} problem${problems === 1 ? "" : "s"}`);
  }
  return problems === 0 ? EXIT.ok : EXIT.failed;
}
