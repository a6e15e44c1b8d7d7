//! Simulation, conformance and black-box tests of Headgate.
