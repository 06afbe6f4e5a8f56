/**
 * Waiting: for a queue or anything else that fills, by polling, by sleeping on eventfds, or first the one and then the other.
 *
 * ```ts
 * import { Waiter } from "@ringside/ringside/wait";
 *
 * using waiter = new Waiter({ mode: "eventfd" });
 * waiter.watch(vector); // an `InterruptVector`; polling needs none
 * if (await waiter.wait(queue, 1000)) console.log("there is something");
 * ```
 *
 * @module
 */
export * from "./any_of.ts";
export type * from "./interrupt_vector.ts";
export type * from "./lifeline.ts";
export * from "./signals.ts";
export * from "./waiter.ts";
// What the types above are made of.
export type { EventFd, OwnedFd } from "../../ffi/mod.ts";
