/**
 * The attributes of one platform device in the emulated kernel's sysfs (Linux: drivers/base/platform.c, drivers/of/{device,kobj}.c), and the node of the
 * device tree that it comes from.
 *
 * @module
 */
import { addDriverOverride } from "./kernel_attributes.ts";
import type { FunctionState, KernelPlatformDevice } from "./kernel_function.ts";
import type { SysfsTree } from "./sysfs_tree.ts";

const DEVICE_TREE = "/sys/firmware/devicetree/base";
/** Cells of 32 bits in an address and in a size, as the `virt` machine of QEMU has them. */
const CELLS = 2;

/** Adds the attributes of a device under its directory. */
export function addPlatformAttributes(
  tree: SysfsTree,
  path: string,
  fn: KernelPlatformDevice,
  state: FunctionState,
): void {
  const { address, options: { numaNode } } = fn;
  const [unit, name] = address.split(".");
  // A name with a unit address comes from a device tree, others from ACPI or from the kernel's command line.
  const node = name !== undefined && /^[0-9a-f]+$/.test(unit!) ? `${name}@${unit}` : undefined;
  const alias = node !== undefined
    ? `of:N${name}T(null)C${fn.device.behaviour.compatible}`
    : name === undefined
    ? `acpi:${address.split(":")[0]}:`
    : `platform:${unit}`;
  tree.constant(`${path}/modalias`, `${alias}\n`);
  // Only a device whose node is known has the attribute.
  if (numaNode >= 0) tree.constant(`${path}/numa_node`, `${numaNode}\n`);
  if (node !== undefined) {
    addDeviceTreeNode(tree, node, fn);
    tree.link(`${path}/of_node`, `../../../firmware/devicetree/base/${node}`);
  }
  tree.attribute(`${path}/uevent`, { read: () => uevent(fn, node, alias, state.driver) });
  addDriverOverride(tree, path, state);
}

/** Takes away what `addPlatformAttributes` put elsewhere than under the device's directory. */
export function removeDeviceTreeNode(tree: SysfsTree, address: string): void {
  const [unit, name] = address.split(".");
  if (name !== undefined) tree.remove(`${DEVICE_TREE}/${name}@${unit}`);
}

function addDeviceTreeNode(tree: SysfsTree, node: string, { device }: KernelPlatformDevice): void {
  const { behaviour: { compatible, windowBytes }, windowAddress } = device;
  for (const name of ["#address-cells", "#size-cells"]) {
    const value = cells(BigInt(CELLS), 1);
    tree.attribute(`${DEVICE_TREE}/${name}`, { read: () => value });
  }
  const at = `${DEVICE_TREE}/${node}`;
  const reg = new Uint8Array([...cells(windowAddress, CELLS), ...cells(BigInt(windowBytes), CELLS)]);
  tree.attribute(`${at}/reg`, { read: () => reg });
  tree.constant(`${at}/compatible`, `${compatible}\0`);
  tree.constant(`${at}/name`, `${node.split("@")[0]}\0`);
}

/** Big-endian, as device trees are. */
function cells(value: bigint, count: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value);
  return bytes.slice(8 - 4 * count);
}

function uevent(
  { device }: KernelPlatformDevice,
  node: string | undefined,
  alias: string,
  driver: string | null,
): string {
  const lines = [
    ...(driver === null ? [] : [`DRIVER=${driver}`]),
    ...(node === undefined ? [] : [
      `OF_NAME=${node.split("@")[0]}`,
      `OF_FULLNAME=/${node}`,
      `OF_COMPATIBLE_0=${device.behaviour.compatible}`,
      "OF_COMPATIBLE_N=1",
    ]),
    `MODALIAS=${alias}`,
  ];
  return lines.map((line) => `${line}\n`).join("");
}
