/**
 * What the command line accepts, in whole: definitions only, so that the parser can be changed. Those of each command are in `parsers/`.
 *
 * @module
 */
import { merge, or } from "@optique/core/constructs";
import type { InferValue } from "@optique/core/parser";
import { admin } from "./parsers/admin.ts";
import { bench } from "./parsers/bench.ts";
import { blk } from "./parsers/blk.ts";
import { consoleCommand } from "./parsers/console.ts";
import { demo, emulate, man } from "./parsers/embedded.ts";
import { bind, control, doctor, list, restore, show, sriov, status, top } from "./parsers/functions.ts";
import { ism } from "./parsers/ism.ts";
import { mmio } from "./parsers/mmio.ts";
import { net } from "./parsers/net.ts";
import { queue } from "./parsers/queue.ts";
import { peek, poke, regs, repl } from "./parsers/registers.ts";
import { rng } from "./parsers/rng.ts";
import { globals, noCommand } from "./parsers/shared.ts";
import { trace } from "./parsers/trace.ts";
import { tvq } from "./parsers/tvq.ts";

/** Registers, and commands that have commands below them; `or` takes no more than 15. */
const groups = or(peek, poke, regs, repl, trace, admin, tvq, ism, mmio, queue, net, blk, bench, control, {
  errors: noCommand,
});

const commands = or(
  list,
  show,
  bind,
  restore,
  sriov,
  status,
  top,
  groups,
  consoleCommand,
  rng,
  emulate,
  demo,
  doctor,
  man,
  { errors: noCommand },
);

// Global options may stand before the command as well as after it.
const everything = merge(globals, commands);

/** The whole command line. */
export const parser: typeof everything = everything;

/** What it parses to. */
export type Invocation = InferValue<typeof everything>;

/** The invocation of one command. */
export type Of<C extends Invocation["command"]> = Extract<Invocation, { command: C }>;
