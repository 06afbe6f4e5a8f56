/**
 * A platform device of the machine.
 *
 * @module
 */
import { MachineDevice, type MachineDeviceOptions } from "./machine_device.ts";
import type { DeviceMachine } from "./machine_socket.ts";
import { EmulatedPlatformDevice, type PlatformDeviceOptions } from "./platform_device.ts";

/** What it is made from. */
export interface MachinePlatformDeviceOptions extends PlatformDeviceOptions, MachineDeviceOptions {
  /** Full address. */
  readonly address: string;
}

/** See the module. */
export class MachinePlatformDevice extends MachineDevice {
  readonly device: EmulatedPlatformDevice;
  readonly options: MachinePlatformDeviceOptions;

  /** Makes the device. */
  constructor(options: MachinePlatformDeviceOptions, around: DeviceMachine) {
    super(options.address, around);
    this.options = options;
    this.device = new EmulatedPlatformDevice(options, this.surroundings());
  }
}
