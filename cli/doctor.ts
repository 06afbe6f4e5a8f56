/**
 * `ringside doctor`
 *
 * @module
 */
import type { Host } from "../lib/host/mod.ts";
import { EXIT } from "./exit.ts";
import { forHost } from "./failure.ts";
import { countText, painted, print, printJson } from "./output.ts";
import type { Of } from "./parser.ts";

const STYLES = { problem: "red", warning: "yellow", ok: "green" } as const;
const HEADINGS = { problem: "problems:", warning: "warnings:", ok: "in order:" } as const;

/** Examines the host. @returns the exit status: 1 when there is a problem. */
export function doctor(host: Host, options: Of<"doctor">): number {
  const findings = host.examine().map((one) =>
    one.mend === undefined ? one : { ...one, mend: forHost(one.mend, host.name) }
  );
  const problems = findings.filter((one) => one.state === "problem").length;
  const status = problems === 0 ? EXIT.ok : EXIT.failed;
  if (options.json) {
    printJson({ ready: problems === 0, findings });
    return status;
  }
  for (const state of ["problem", "warning", "ok"] as const) {
    const found = findings.filter((one) => one.state === state);
    if (found.length > 0) print(painted(HEADINGS[state], STYLES[state]));
    for (const { what, detail, mend } of found) {
      print(`  ${what}: ${detail}`);
      if (mend !== undefined && state !== "ok") print(`    mend: ${mend}`);
    }
  }
  print(problems === 0 ? "ready" : `not ready: ${countText(problems, "problem")}`);
  return status;
}
