/**
 * Machines that are broken on purpose, each in one way that a real mistake could take: they show that the simulation can
 * fail. Each names the property that catches it, the profile, and within how many runs.
 */
import { HashMap, Option } from "effect"
import * as Target from "../../core/config/Target.ts"
import type { Model } from "../../core/loadbalancer/index.ts"
import { Ip } from "../../core/net/index.ts"
import { Manager } from "../../core/nsm/index.ts"
import { Registry } from "../../core/nsp/index.ts"
import type { Schedule } from "./Fault.ts"
import { machines } from "./Ground.ts"
import { hearing, type Mutant, saying } from "./Mutation.ts"

/** A VIP comes while some of the trench are cut off from the NSP. */
const unaware = (kind: "proxy" | "fe"): Schedule => [
  ...[0, 1].map((n) => ({ at: 30_000, fault: { _tag: "Part", a: `${kind}-${n}`, b: "nsp", forMs: 60_000 } as const })),
  { at: 31_000, fault: { _tag: "Set", kind: "vip", n: 3, present: true } }
]

const unguarded = (ruleset: Model.Ruleset): Model.Ruleset => {
  const { guard: _, ...rules } = ruleset
  return rules
}

/** The registry that does not see the other targets of a stream when one registers. */
const registerAlone: typeof machines.nsp.step = (state, event, now) => {
  if (event._tag !== "RegisterRequested") return machines.nsp.step(state, event, now)
  const group = Registry.groupOf(event.target)
  const all = Option.getOrElse(HashMap.get(state.targets, group), () => HashMap.empty<string, Target.Target>())
  const own = HashMap.filter(all, ({ ips }) => Target.sameIps(ips, event.target.ips))
  const alone = { ...state, targets: HashMap.set(state.targets, group, own) }
  const [next, commands] = machines.nsp.step(alone, event, now)
  return [{
    ...next,
    targets: HashMap.modify(next.targets, group, (one) => HashMap.union(all, one))
  }, commands]
}

/** The service of each trench that stands for a service of any trench. */
const ofAll = (service: string): ReadonlyArray<string> =>
  ["t", "t2"].map((name) => service.replace(/\.t2?\./, `.${name}.`))

/** The manager that closes all connections with the first one. */
const closeAll: typeof machines.manager.step = (state, event, now) => {
  const first = machines.manager.step(state, event, now)
  if (event._tag !== "CloseRequested") return first
  return Object.values(Manager.connections(state)).reduce<typeof first>(([state, commands], connection) => {
    const [next, more] = machines.manager.step(state, { ...event, reply: nobody, connection }, now)
    return [next, [...commands, ...more]]
  }, first)
}
const nobody = 1_000_000_000

export const mutants: ReadonlyArray<Mutant> = [
  {
    mistake: "neither the ambassador nor the registry looks who has an identifier",
    profile: "calm",
    caughtBy: "unique-identifiers",
    within: 5,
    machines: {
      tapa: hearing(machines.tapa, (event) => event._tag === "ListSucceeded" ? { ...event, targets: [] } : event),
      nsp: { ...machines.nsp, step: registerAlone }
    }
  },
  {
    mistake: "the proxy does not release addresses, and the IPAM does not take them back",
    profile: "calm",
    caughtBy: "nothing-left",
    within: 1,
    machines: {
      proxy: saying(machines.proxy, (command) => command._tag === "ReleaseAddresses" ? undefined : command),
      ipam: {
        ...machines.ipam,
        init: (input, now) => machines.ipam.init({ ...input, settings: { ...input.settings, sweep: false } }, now)
      }
    }
  },
  {
    mistake: "the registry never forgets a target that died",
    profile: "calm",
    caughtBy: "nothing-left",
    within: 1,
    machines: {
      nsp: {
        ...hearing(machines.nsp, (event) =>
          event._tag === "UnregisterRequested"
            ? { ...event, target: { ...event.target, ips: ["nobody"] } }
            : event),
        wake: () => undefined
      }
    }
  },
  {
    mistake: "the registry forgets targets twice as soon as they refresh",
    profile: "calm",
    caughtBy: "registry-true",
    within: 3,
    machines: {
      nsp: {
        ...machines.nsp,
        init: (input, now) => machines.nsp.init({ ...input, settings: { entryTimeoutMs: 5_000 } }, now)
      }
    }
  },
  {
    mistake: "the IPAM gives every connection of a family one address",
    profile: "calm",
    caughtBy: "unique-addresses",
    within: 1,
    machines: {
      ipam: saying(machines.ipam, (command) =>
        command._tag === "Reply" && command.answer._tag === "Allocated"
          ? {
            ...command,
            answer: {
              ...command.answer,
              address: Ip.fromBigInt(
                Ip.family(command.answer.address),
                Ip.toBigInt(command.answer.address) & ~0x3n | 0x1n
              )
            }
          }
          : command)
    }
  },
  {
    mistake: "the proxy hears of VIPs once",
    profile: "churn",
    caughtBy: "watchers-know",
    within: 10,
    machines: {
      proxy: hearing(
        machines.proxy,
        (event, { vips }) => event._tag === "VipsChanged" && vips !== undefined ? undefined : event
      )
    }
  },
  {
    mistake: "the proxy makes no rules for VIPs",
    profile: "calm",
    caughtBy: "no-leak",
    within: 1,
    machines: {
      proxy: saying(machines.proxy, (command) =>
        command._tag === "ApplyOperations"
          ? { ...command, operations: command.operations.filter(({ _tag }) => _tag !== "AddRule") }
          : command)
    }
  },
  {
    mistake: "the proxy makes no rule for its bridge",
    profile: "churn",
    caughtBy: "no-leak",
    within: 1,
    schedule: unaware("proxy"),
    machines: {
      proxy: saying(machines.proxy, (command) =>
        command._tag === "ApplyOperations"
          ? {
            ...command,
            operations: command.operations.filter((one) => one._tag !== "AddRule" || one.rule.iif === undefined)
          }
          : command)
    }
  },
  {
    mistake: "the load balancer lets answers leave by the pod's own network",
    profile: "churn",
    caughtBy: "no-leak",
    within: 1,
    schedule: unaware("fe"),
    machines: {
      loadBalancer: saying(machines.loadBalancer, (command) =>
        command._tag === "ApplyRules"
          ? {
            ...command,
            after: unguarded(command.after),
            ...command.before === undefined ? {} : { before: unguarded(command.before) }
          }
          : command)
    }
  },
  {
    mistake: "the proxy does not connect with load balancers that come later",
    profile: "upgrade",
    caughtBy: "reachable",
    within: 3,
    machines: {
      proxy: hearing(
        machines.proxy,
        (event, { recovery }) =>
          event._tag === "EndpointsChanged" && recovery === "Done" && event.endpoints.length > 1 ? undefined : event
      )
    }
  },
  {
    mistake: "the frontend takes the load balancer for forwarding whatever it says",
    profile: "calm",
    caughtBy: "announced-means-forwarding",
    within: 1,
    machines: {
      frontend: hearing(
        machines.frontend,
        (event) => event._tag === "LoadBalancerObserved" ? { ...event, forwarding: true } : event
      )
    }
  },
  {
    mistake: "the frontend keeps no rules for the egress of VIPs",
    profile: "calm",
    caughtBy: "reachable",
    within: 1,
    machines: {
      frontend: saying(machines.frontend, (command) =>
        command._tag === "ConvergeRules"
          ? { ...command, desired: { ...command.desired, vips: [], guarded: [] } }
          : command)
    }
  },
  {
    mistake: "the frontend does not look at its sessions again",
    profile: "calm",
    caughtBy: "announced-again",
    within: 1,
    machines: {
      frontend: saying(machines.frontend, (command) => command._tag === "QueryBird" ? undefined : command)
    }
  },
  {
    mistake: "the frontend tries again and again what BIRD refuses",
    profile: "churn",
    caughtBy: "announced-again",
    within: 1,
    schedule: [
      { at: 31_000, fault: { _tag: "Set", kind: "bad", n: 0, present: true } },
      { at: 40_000, fault: { _tag: "Set", kind: "vip", n: 2, present: true } }
    ],
    machines: {
      frontend: hearing(
        machines.frontend,
        (event) =>
          event._tag === "ConfigureRefused"
            ? { _tag: "ConfigureFailed", call: event.call, reason: event.message }
            : event
      )
    }
  },
  {
    mistake: "the load balancer hears of port translations once",
    profile: "churn",
    caughtBy: "watchers-know",
    within: 1,
    schedule: [{ at: 31_000, fault: { _tag: "Set", kind: "port-nat", n: 0, present: true } }],
    machines: {
      loadBalancer: hearing(
        machines.loadBalancer,
        (event, { lists }) => event._tag === "PortNatsChanged" && lists.portNats !== undefined ? undefined : event
      )
    }
  },
  {
    mistake: "the load balancer hears of targets once",
    profile: "calm",
    caughtBy: "reachable",
    within: 3,
    machines: {
      loadBalancer: hearing(
        machines.loadBalancer,
        (event, { lists }) => event._tag === "TargetsChanged" && (lists.targets ?? []).length > 0 ? undefined : event
      )
    }
  },
  {
    mistake: "the load balancer numbers the targets anew after each change",
    profile: "calm",
    caughtBy: "flow-stays",
    within: 5,
    machines: {
      loadBalancer: saying(machines.loadBalancer, (command) =>
        command._tag === "ApplyRules"
          ? {
            ...command,
            after: {
              ...command.after,
              streams: command.after.streams.map((stream) => ({
                ...stream,
                maxTargets: stream.maxTargets + stream.identifiers.length
              }))
            }
          }
          : command)
    }
  },
  {
    mistake: "the manager does not clear the kernel of what is closed",
    profile: "calm",
    caughtBy: "nothing-left",
    within: 1,
    machines: {
      manager: saying(machines.manager, (command) =>
        command._tag === "Unplumb"
          ? {
            ...command,
            cross: { ...command.cross, alias: "nobody's", client: { ...command.cross.client, policies: [] } }
          }
          : command)
    }
  },
  {
    mistake: "the client of NSM does not hear of refusals",
    profile: "crashes",
    caughtBy: "open-again",
    within: 20,
    machines: {
      client: hearing(machines.client, (event) => event._tag === "RequestFailed" ? undefined : event)
    }
  },
  {
    mistake: "the endpoint registers once",
    profile: "calm",
    caughtBy: "reachable",
    within: 1,
    machines: {
      registration: {
        ...hearing(machines.registration, (event) => event._tag === "WatchLost" ? undefined : event),
        wake: (state) => state.phase._tag === "Registered" ? undefined : machines.registration.wake(state)
      }
    }
  },
  {
    mistake: "the load balancer wakes at once, for ever",
    profile: "calm",
    caughtBy: "no-busy-wake",
    within: 1,
    machines: { loadBalancer: { ...machines.loadBalancer, wake: () => 0 } }
  },
  {
    mistake: "the registry of NSM takes the services of all trenches for the same",
    profile: "trenches",
    caughtBy: "isolated",
    within: 1,
    machines: {
      manager: hearing(machines.manager, (event) => {
        if (event._tag !== "RegisterEndpointRequested") return event
        const { endpoint, endpoint: { labels, networkServices } } = event
        return {
          ...event,
          endpoint: {
            ...endpoint,
            networkServices: networkServices.flatMap(ofAll),
            labels: Object.fromEntries(
              Object.entries(labels).flatMap(([service, own]) => ofAll(service).map((name) => [name, own]))
            )
          }
        }
      })
    }
  },
  {
    mistake: "the ambassador asks for the proxy of the first trench, whichever it is in",
    profile: "trenches",
    caughtBy: "isolated",
    within: 1,
    machines: {
      tapa: saying(machines.tapa, (command) =>
        command._tag === "RequestConnection"
          ? {
            ...command,
            connection: {
              ...command.connection,
              networkService: command.connection.networkService.replace(".t2.", ".t.")
            }
          }
          : command)
    }
  },
  {
    mistake: "the manager closes all connections with the first one",
    profile: "trenches",
    caughtBy: "left-alone",
    within: 1,
    schedule: [],
    machines: { manager: { ...machines.manager, step: closeAll } }
  }
]
