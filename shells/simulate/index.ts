/**
 * Whole trenches in virtual time, as `sluice/simulation`: lives from seeds with faults, what must hold in them, and what
 * is told of them. Put in your own machines (planners), scenarios (profiles) and properties.
 */
export {
  Coverage,
  Fault,
  Ground,
  Journal,
  Oracle,
  Profiles,
  Properties,
  Shrink,
  Simulation,
  Trace,
  Trench
} from "../../property-tests/simulation/index.ts"
export * as Campaign from "./Campaign.ts"
export * as Recordings from "./Recordings.ts"
export * as Report from "./Report.ts"
export * as TracePage from "./TracePage.ts"
