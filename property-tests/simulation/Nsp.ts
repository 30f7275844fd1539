/** The NSP in a simulated world, as `shells/nsp`: the registry with its store on disk, and the watches. */
import type * as Config from "../../core/config/Model.ts"
import type * as Target from "../../core/config/Target.ts"
import { Registry } from "../../core/nsp/index.ts"
import * as Same from "../../core/Same.ts"
import * as Actor from "./Actor.ts"
import { type Ground, lifetimes } from "./Ground.ts"
import type { Program } from "./World.ts"

export interface Nsp extends Program {
  /** The operator changes the manifests. */
  readonly configure: (configuration: Config.Configuration) => void
  readonly configuration: () => Config.Configuration
  /** The registered targets, as far as the process runs. */
  readonly targets: (filter: Registry.Filter) => ReadonlyArray<Target.Target>
}

/** How long it takes until a change of the manifests is seen, and until a change of the store is on disk. */
const readMs = { shortest: 20, longest: 300 }
const storeMs = 2

interface Watcher {
  readonly look: () => void
}

export interface Options {
  readonly name: string
  readonly initial: Config.Configuration
  /** Hears of every target that is saved. */
  readonly onTarget: (target: Target.Target) => void
}

export const make = (ground: Ground, { initial, name, onTarget }: Options): Nsp => {
  const { machines, observe, world } = ground
  const disk = new Map<string, Target.Target>()
  let manifests = initial
  let changed: (() => void) | undefined
  let registry: Actor.Actor<Registry.State, Registry.Event> | undefined

  const boot: Program["boot"] = (life) => {
    const waiting = new Map<number, () => void>()
    const targets = new Set<Watcher>()
    const configurations = new Set<Watcher>()
    let inForce: Config.Configuration | undefined
    let replies = 0
    let isDirty = false

    /** Watchers hear the newest list, not every one. */
    const wake = (): void => {
      if (isDirty) return
      isDirty = true
      life.later(1, () => {
        isDirty = false
        for (const { look } of targets) look()
      })
    }
    const actor = Actor.start(world, life, observe, machines.nsp, {
      settings: { entryTimeoutMs: lifetimes.targetMs },
      stored: [...disk.values()]
    }, (command: typeof Registry.Command.Type) => {
      switch (command._tag) {
        case "SaveTarget":
          disk.set(Registry.keyOf(command.target), command.target)
          onTarget(command.target)
          return wake()
        case "RemoveTarget":
          disk.delete(Registry.keyOf(command.target))
          return wake()
        case "Reply":
          return life.later(storeMs, () => {
            waiting.get(command.reply)?.()
            waiting.delete(command.reply)
          })
      }
    })
    registry = actor
    /** The lists of watchers, each made once for all who ask for the same. */
    const lists = new Map<
      string,
      { readonly of: Registry.State["targets"]; readonly list: ReadonlyArray<Target.Target> }
    >()
    const listed = (filter: Registry.Filter): ReadonlyArray<Target.Target> => {
      const key = `${Registry.patternOf(filter)} ${filter.status}`
      const state = actor.current()
      const known = lists.get(key)
      if (known?.of === state.targets) return known.list
      const list = Registry.targets(state, filter)
      lists.set(key, { of: state.targets, list })
      return list
    }
    const ask = (tag: "RegisterRequested" | "UnregisterRequested", target: Target.Target, done: () => void): void => {
      waiting.set(replies, done)
      actor.send({ _tag: tag, reply: replies++, target })
    }
    const watcher = <A>(all: Set<Watcher>, view: () => A | undefined, emit: (value: A) => void): () => void => {
      let last: A | undefined
      const one: Watcher = {
        look: () => {
          const value = view()
          if (value === undefined || (last !== undefined && Same.equals(value, last))) return
          last = value
          emit(value)
        }
      }
      all.add(one)
      one.look()
      return () => void all.delete(one)
    }
    life.api = {
      nsp: {
        register: (target, done) => ask("RegisterRequested", target, done),
        unregister: (target, done) => ask("UnregisterRequested", target, done),
        watchTargets: (filter, emit) => watcher(targets, () => listed(filter), emit),
        watch: (view, emit) => watcher(configurations, () => inForce === undefined ? undefined : view(inForce), emit)
      }
    }
    const read = (): void =>
      life.later(life.draw(readMs.shortest, readMs.longest), () => {
        inForce = manifests
        for (const { look } of configurations) look()
      })
    changed = read
    read()
  }

  return {
    name,
    boot,
    configuration: () => manifests,
    configure: (configuration) => {
      manifests = configuration
      if (world.isAlive(name)) changed?.()
    },
    targets: (filter) =>
      registry === undefined || !world.isAlive(name) ? [] : Registry.targets(registry.current(), filter)
  }
}
