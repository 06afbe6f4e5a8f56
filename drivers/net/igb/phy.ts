/**
 * The 82576's internal PHY, through MDIC (datasheet 8.2.4), and the semaphore that it is shared with firmware by (8.7).
 *
 * @module
 */
import { DeviceError, TimeoutError } from "../../../lib/errors/mod.ts";
import type { Registers } from "../../../lib/registers/registers.ts";
import type { IGB_REGISTERS } from "./registers.ts";

/** Registers of the PF. */
export type IgbRegisters = Registers<typeof IGB_REGISTERS>;

/** The PHY's address on its bus. */
const PHY_ADDRESS = 1;
/** IEEE 802.3 clause 22, register 0. */
const CONTROL = 0;
/** Of it: 1000 Mbit/s, full duplex, auto-negotiation on and started anew. */
const RESTART_NEGOTIATION = 0x1340;

/** Starts the negotiation of the link anew: it goes down and, with a partner, up. @throws TimeoutError, DeviceError */
export async function restartNegotiation(registers: IgbRegisters, timeoutMs: number): Promise<void> {
  const port = 1 << registers.fields("STATUS").LAN_ID % 2;
  await withSync(registers, timeoutMs, (held) => {
    registers.set("SW_FW_SYNC", { SW_PHY: held.SW_PHY | port, FW_PHY: held.FW_PHY });
  }, (held) => (held.SW_PHY & port) !== 0 || (held.FW_PHY & port) !== 0);
  try {
    registers.set("MDIC", {
      DATA: RESTART_NEGOTIATION,
      REGADD: CONTROL,
      PHYADD: PHY_ADDRESS,
      OP: "write",
    });
    const { ERROR } = await registers.waitFor("MDIC", { READY: true }, timeoutMs);
    if (ERROR) throw new DeviceError("the PHY does not answer", { field: "MDIC" });
  } finally {
    await withSync(registers, timeoutMs, (held) => {
      registers.set("SW_FW_SYNC", { SW_PHY: held.SW_PHY & ~port, FW_PHY: held.FW_PHY });
    });
  }
}

/** Changes SW_FW_SYNC under the two bits of SWSM. @param taken who asks comes again later @throws TimeoutError */
async function withSync(
  registers: IgbRegisters,
  timeoutMs: number,
  change: (held: { SW_PHY: number; FW_PHY: number }) => void,
  taken: (held: { SW_PHY: number; FW_PHY: number }) => boolean = () => false,
): Promise<void> {
  for (const end = performance.now() + timeoutMs;;) {
    // Reading sets SMBI: who reads 0 has it.
    await registers.waitFor("SWSM", { SMBI: false }, timeoutMs);
    registers.set("SWSM", { SMBI: true, SWESMBI: true });
    const mine = registers.fields("SWSM").SWESMBI;
    const held = registers.fields("SW_FW_SYNC");
    const done = mine && !taken(held);
    if (done) change(held);
    registers.set("SWSM", 0);
    if (done) return;
    if (performance.now() > end) {
      throw new TimeoutError("firmware or another driver does not give the PHY free", {
        hint: "is another driver bound to the other port?",
      });
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
