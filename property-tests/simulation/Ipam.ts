/** The IPAM in a simulated world, as `shells/ipam`: leases with their store on disk. */
import { Ipam, Model } from "../../core/ipam/index.ts"
import { Configuration } from "../../core/nsp/index.ts"
import * as Actor from "./Actor.ts"
import { follow, type Ground, lifetimes } from "./Ground.ts"
import type { Program } from "./World.ts"

export interface Options {
  readonly name: string
  readonly nsp: string
  readonly trench: string
  readonly pools: ReadonlyArray<Model.Pool>
}

export interface IpamProgram extends Program {
  /** The stored leases of single addresses. */
  readonly leases: () => ReadonlyArray<Model.Entry>
}

/** The length of the path of a child: conduit, node, name. */
const depth = 3
/** How long a transaction takes. */
const persistMs = { shortest: 1, longest: 10 }

export const make = (ground: Ground, { name, nsp, pools, trench }: Options): IpamProgram => {
  const { machines, observe, world } = ground
  const disk = new Map<string, Model.Entry>()

  const persist = (change: Model.Change): void => {
    if (change._tag === "SaveEntry") {
      disk.set(keyOf(change.entry.family, change.entry.path), change.entry)
      return
    }
    // A child has none of its own.
    if (change.path.length === depth) return void disk.delete(keyOf(change.family, change.path))
    for (const [key, { family, path }] of disk) {
      if (family === change.family && change.path.every((name, i) => path[i] === name)) disk.delete(key)
    }
  }

  return {
    name,
    leases: () => [...disk.values()].filter(({ path }) => path.length === depth),
    boot: (life) => {
      const waiting = new Map<number, (answer: Model.Answer) => void>()
      let replies = 0
      const actor = Actor.start(world, life, observe, machines.ipam, {
        settings: { trench, pools, sweep: true, sweepIntervalMs: 10_000, leaseMs: lifetimes.leaseMs },
        entries: [...disk.values()]
      }, (command: Ipam.Command, send: (event: Ipam.Event) => void) => {
        switch (command._tag) {
          case "Persist":
            return life.later(life.draw(persistMs.shortest, persistMs.longest), () => {
              if (life.isBroken()) {
                return send({ _tag: "PersistFailed", call: command.call, reason: "the disk is full" })
              }
              command.changes.forEach(persist)
              send({ _tag: "PersistSucceeded", call: command.call })
            })
          case "Reply": {
            const done = waiting.get(command.reply)
            waiting.delete(command.reply)
            return done?.(command.answer)
          }
        }
      })
      const ask = (tag: "AllocateRequested" | "ReleaseRequested") =>
      (
        child: Model.Child,
        done: (answer: Model.Answer) => void
      ) => {
        const reply = replies++
        waiting.set(reply, done)
        actor.send({ _tag: tag, reply, child })
        return () => {
          if (waiting.delete(reply)) actor.send({ _tag: "RequestAbandoned", reply })
        }
      }
      life.api = { ipam: { allocate: ask("AllocateRequested"), release: ask("ReleaseRequested") } }
      life.shutdown = (done) => {
        actor.follow((state) => Ipam.isClosed(state) && life.later(0, done))
        actor.send({ _tag: "CloseRequested" })
        if (Ipam.isClosed(actor.current())) done()
      }
      follow<ReadonlyArray<string>>(
        ground,
        life,
        nsp,
        ({ nsp }, emit) =>
          nsp?.watch((all) => Configuration.conduits(all, { trench }).map(({ conduit }) => conduit), emit),
        (conduits) => actor.send({ _tag: "ConduitsChanged", conduits })
      )
    }
  }
}

const keyOf = (family: string, path: ReadonlyArray<string>): string => `${family} ${path.join(" ")}`
