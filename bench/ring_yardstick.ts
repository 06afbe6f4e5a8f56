/**
 * Rings in C with the same book-keeping and checks: `ring_yardstick.c`, compiled when it is needed.
 *
 * @module
 */
import { type NumberLibrary, openNumberLibrary } from "../ffi/number_library.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { compileC } from "./c_compiler.ts";
import type { RingVariant } from "./ring_pair.ts";
import { useDirectory } from "./processes.ts";

/** See the module. */
export class RingYardstick {
  readonly #library: NumberLibrary<"ring_reset" | "ring_turn">;

  private constructor(library: NumberLibrary<"ring_reset" | "ring_turn">) {
    this.#library = library;
  }

  /** Compiles it. @returns where it cannot be, the reason */
  static async compile(stack: AsyncDisposableStack): Promise<RingYardstick | string> {
    const path = `${useDirectory(stack)}/ring_yardstick.so`;
    const failure = await compileC("./ring_yardstick.c", path, ["-shared", "-fPIC"]);
    if (failure !== undefined) return failure;
    return new RingYardstick(stack.use(openNumberLibrary(path, { ring_reset: 1, ring_turn: 4 })));
  }

  /** As `RingPair.turn`. @throws DeviceError when a chain is lost */
  turn(variant: RingVariant, count: number, burst: number): void {
    const parts = variant.parts === "slot" ? 1 : variant.parts;
    const code = this.#library.functions.ring_turn(kindOf(variant), parts, count, burst);
    if (code !== 0) throw new DeviceError(`the ring in C stopped with ${code}`);
  }

  /** Makes a ring new. */
  reset(variant: RingVariant): void {
    this.#library.functions.ring_reset(kindOf(variant));
  }
}

/** Its rings know no slots, and put chains of two parts into tables. */
function kindOf({ layout, eventIndex, inOrder, notificationData }: RingVariant): number {
  return Number(layout === "packed") + 2 * Number(eventIndex) + 4 * Number(inOrder) +
    8 * Number(notificationData);
}
