/** The subcommands of `sluice`. Each is loaded only when it is called, so none pays for another. */
import type { Command } from "../runtime/Process.ts"

/** One line of the list, and how to get the real thing. */
export interface Subcommand {
  readonly summary: string
  readonly load: () => Promise<{ readonly command: Command }>
}

export const commands: { readonly [name: string]: Subcommand } = {
  frontend: {
    summary: "Announces the VIPs of an attractor to its gateways and guards their egress.",
    load: () => import("../frontend/Main.ts")
  },
  health: {
    summary: "Asks a program whether it is fit, for probes: exit code 0 or 1.",
    load: () => import("./HealthCheck.ts")
  },
  ipam: {
    summary: "Hands out the addresses of a trench.",
    load: () => import("../ipam/Main.ts")
  },
  lab: {
    summary: "Builds a whole trench on this machine and sends real traffic through it.",
    load: () => import("../lab/Main.ts")
  },
  nsmgr: {
    summary: "Connects clients and endpoints of one machine: NSM manager, registry and kernel forwarder in one.",
    load: () => import("../nsm/Main.ts")
  },
  nsp: {
    summary: "Serves the configuration of one trench and registers its targets.",
    load: () => import("../nsp/Main.ts")
  },
  plan: {
    summary: "Shows what a component would do for given manifests, and changes nothing.",
    load: () => import("../plan/Main.ts")
  },
  proxy: {
    summary: "Joins the load balancers of a conduit and the targets of a node.",
    load: () => import("../proxy/Main.ts")
  },
  replay: {
    summary: "Walks through a recording of a process, says whether it still decides the same, makes tests of it.",
    load: () => import("../replay/Main.ts")
  },
  simulate: {
    summary: "Puts whole trenches through faults in virtual time and checks what must hold.",
    load: () => import("../simulate/Main.ts")
  },
  "stateless-lb": {
    summary: "Spreads the traffic of a conduit over its targets.",
    load: () => import("../loadbalancer/Main.ts")
  },
  tapa: {
    summary: "Ambassador of a target: opens streams of external traffic for the application beside it.",
    load: () => import("../tapa/Main.ts")
  },
  "spiffe-dev": {
    summary: "Gives SPIFFE identities on this machine, for tests and laptops only.",
    load: () => import("../spiffe/dev/Main.ts")
  },
  target: {
    summary: "Opens, closes and watches streams at the ambassador of a target.",
    load: () => import("../target/Main.ts")
  }
}
