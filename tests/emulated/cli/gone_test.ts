/** `ringside show` of a function that reads as all ones. */
import { assertEquals } from "@std/assert";
import type { Of } from "../../../cli/parser.ts";
import { printingTo } from "../../../cli/printing_to.ts";
import { show } from "../../../cli/show.ts";
import { fixture, FUNCTIONS } from "../../unit/host/fixture.ts";

const GONE = "0000:05:00.0";

Deno.test("show: a function that is gone is named by what the kernel remembers, and so is its driver", async () => {
  using made = fixture({
    functions: [...FUNCTIONS, { address: GONE, device: 0x10c9, driver: "igb", isGone: true }],
  });
  const run = async (json: boolean): Promise<string> => {
    let out = "";
    const options = {
      command: "show",
      functions: [GONE],
      ids: [],
      json,
      hex: false,
      host: undefined,
    } as unknown as Of<"show">;
    await printingTo({ out: (text) => out += text, err: () => {} }, () => show(made.host, options));
    return out;
  };
  const lines = (await run(false)).split("\n");
  assertEquals(lines.slice(0, 3), [
    // As this host's source of names has it, by the ids in sysfs: those in configuration space are ones.
    "05:00.0 class: vendor device",
    "\t!!! Gone: it reads as all ones. It was removed, has no power, or the link to it is down",
    "\tKernel driver in use: igb",
  ]);
  const { driver, deviceId, config } = JSON.parse(await run(true));
  assertEquals([driver, deviceId, config.gone], ["igb", "0x10c9", true]);
});
