/**
 * Names for a machine without a `pci.ids` file: all base classes, the common subclasses, and the functions that
 * this project meets. Written in the format of `pci.ids`, so that there is one parser and no second table.
 *
 * @module
 */

import { parsePciIds, type PciNames } from "./ids.ts";
import { VIRTIO_MODERN_BASE, VIRTIO_TRANSITIONAL_IDS, VIRTIO_TYPE_NAMES } from "./virtio_ids.ts";

const VENDORS = `
1022  Advanced Micro Devices, Inc. [AMD]
10de  NVIDIA Corporation
10ee  Xilinx Corporation
144d  Samsung Electronics Co Ltd
\ta808  NVMe SSD Controller SM981/PM981/PM983
14e4  Broadcom Inc. and subsidiaries
15b3  Mellanox Technologies
\t1017  MT27800 Family [ConnectX-5]
\t1018  MT27800 Family [ConnectX-5 Virtual Function]
\t101d  MT2892 Family [ConnectX-6 Dx]
\t101e  ConnectX Family mlx5Gen Virtual Function
177d  Cavium, Inc.
1b36  Red Hat, Inc.
\t0001  QEMU PCI-PCI bridge
\t0008  QEMU PCIe Host bridge
\t000c  QEMU PCIe Root port
\t000d  QEMU XHCI Host Controller
\t0010  QEMU NVM Express Controller
1d0f  Amazon.com, Inc.
\tec20  Elastic Network Adapter (ENA)
8086  Intel Corporation
\t100e  82540EM Gigabit Ethernet Controller
\t10c9  82576 Gigabit Network Connection
\t10ca  82576 Virtual Function
\t10d3  82574L Gigabit Network Connection
\t10ed  82599 Ethernet Controller Virtual Function
\t10fb  82599ES 10-Gigabit SFI/SFP+ Network Connection
\t1520  I350 Ethernet Controller Virtual Function
\t1521  I350 Gigabit Network Connection
\t1533  I210 Gigabit Network Connection
\t154c  Ethernet Virtual Function 700 Series
\t1572  Ethernet Controller X710 for 10GbE SFP+
\t1592  Ethernet Controller E810-C for QSFP
\t1889  Ethernet Adaptive Virtual Function
\t29c0  82G33/G31/P35/P31 Express DRAM Controller
`;

const CLASSES = `
C 00  Unclassified device
\t00  Non-VGA unclassified device
\t01  VGA compatible unclassified device
C 01  Mass storage controller
\t00  SCSI storage controller
\t01  IDE interface
\t04  RAID bus controller
\t05  ATA controller
\t06  SATA controller
\t\t01  AHCI 1.0
\t07  Serial Attached SCSI controller
\t08  Non-Volatile memory controller
\t\t01  NVMHCI
\t\t02  NVM Express
\t80  Mass storage controller
C 02  Network controller
\t00  Ethernet controller
\t07  Infiniband controller
\t08  Fabric controller
\t80  Network controller
C 03  Display controller
\t00  VGA compatible controller
\t\t00  VGA controller
\t02  3D controller
\t80  Display controller
C 04  Multimedia controller
\t00  Multimedia video controller
\t01  Multimedia audio controller
\t03  Audio device
\t80  Multimedia controller
C 05  Memory controller
\t00  RAM memory
\t01  FLASH memory
\t02  CXL
\t\t10  CXL Memory Device (CXL 2.x)
\t80  Memory controller
C 06  Bridge
\t00  Host bridge
\t01  ISA bridge
\t04  PCI bridge
\t\t00  Normal decode
\t\t01  Subtractive decode
\t07  CardBus bridge
\t80  Bridge
C 07  Communication controller
\t00  Serial controller
\t\t02  16550
\t80  Communication controller
C 08  Generic system peripheral
\t03  RTC
\t06  IOMMU
\t80  System peripheral
C 09  Input device controller
\t80  Input device controller
C 0a  Docking station
C 0b  Processor
\t40  Co-processor
C 0c  Serial bus controller
\t03  USB controller
\t\t00  UHCI
\t\t10  OHCI
\t\t20  EHCI
\t\t30  XHCI
\t05  SMBus
C 0d  Wireless controller
\t11  Bluetooth
\t80  Wireless controller
C 0e  Intelligent controller
C 0f  Satellite communications controller
C 10  Encryption controller
\t00  Network and computing encryption device
\t80  Encryption controller
C 11  Signal processing controller
\t80  Signal processing controller
C 12  Processing accelerators
\t00  Processing accelerators
C 13  Non-Essential Instrumentation
C 40  Coprocessor
C ff  Unassigned class
`;

function virtioLines(): string {
  const transitional = Array.from(
    VIRTIO_TRANSITIONAL_IDS,
    ([id, device]) => [device, `Virtio ${VIRTIO_TYPE_NAMES.get(id)}`],
  );
  const modern = Array.from(
    VIRTIO_TYPE_NAMES,
    ([id, name]) => [VIRTIO_MODERN_BASE + id, `Virtio 1.0 ${name}`],
  );
  const lines = [...transitional, ...modern].map(([device, name]) => `\t${device!.toString(16)}  ${name}`);
  return ["1af4  Red Hat, Inc.", ...lines, ""].join("\n");
}

/** The built-in names. */
export const BUILTIN_NAMES: PciNames = parsePciIds(VENDORS + virtioLines() + CLASSES);
