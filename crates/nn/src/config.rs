use crate::{Cost, DitConfig, DitPlan, Error, Input, UnetConfig, UnetPlan};
use pentimento_core::{Network, Scope};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;

/// A backbone as a recipe names it: `network = "DiT-S/4"`, or a table `[network.dit]` or `[network.unet]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkConfig {
    /// A transformer over patches.
    Dit(DitConfig),
    /// A convolutional U-Net.
    Unet(UnetConfig),
}

enum Plan {
    Dit(DitPlan),
    Unet(Box<UnetPlan>),
}

impl NetworkConfig {
    fn plan(&self, input: Input, classes: i64) -> Result<Plan, Error> {
        Ok(match self {
            Self::Dit(c) => Plan::Dit(c.plan(input, classes)?),
            Self::Unet(c) => Plan::Unet(Box::new(c.plan(input, classes)?)),
        })
    }

    /// Everything that can be wrong, without making a tensor; and what the network costs.
    ///
    /// # Errors
    /// One sentence on the first setting that does not fit images of `input` = [C, H, W] or the number of classes
    /// (0 = unconditional).
    pub fn cost(&self, input: Input, classes: i64) -> Result<Cost, Error> {
        Ok(match self.plan(input, classes)? {
            Plan::Dit(p) => p.cost(),
            Plan::Unet(p) => p.cost(),
        })
    }

    /// The network with initial weights, its parameters made below `root`.
    ///
    /// # Errors
    /// As [`NetworkConfig::cost`], before the first tensor is made.
    pub fn build(&self, root: &Scope, input: Input, classes: i64) -> Result<Box<dyn Network>, Error> {
        Ok(match self.plan(input, classes)? {
            Plan::Dit(p) => Box::new(p.build(root)),
            Plan::Unet(p) => Box::new(p.build(root)),
        })
    }

    /// Whether the output has twice the channels of the input, the second half for the variance.
    pub fn learns_sigma(&self) -> bool {
        match self {
            Self::Dit(c) => c.learn_sigma,
            Self::Unet(c) => c.learn_sigma,
        }
    }
}

impl FromStr for NetworkConfig {
    type Err = Error;

    /// The network of a published name, `DiT-S/4` or `ADM-64`.
    fn from_str(name: &str) -> Result<Self, Error> {
        let preset = Some(name.to_owned());
        if UnetConfig::names().contains(&name) {
            return Ok(Self::Unet(UnetConfig { preset, ..UnetConfig::default() }));
        }
        match DitConfig::preset(name) {
            Ok(_) => Ok(Self::Dit(DitConfig { preset, ..DitConfig::default() })),
            Err(_) => {
                let dit = ["Ti", "S", "B", "L", "XL"].into_iter();
                let dit = dit.flat_map(|s| [2, 4, 8].map(|p| format!("DiT-{s}/{p}")));
                let all: Vec<String> = dit.chain(UnetConfig::names().iter().map(ToString::to_string)).collect();
                Err(Error::unknown("network", name, &all))
            }
        }
    }
}

/// The table form, as serde derives it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Table {
    Dit(DitConfig),
    Unet(UnetConfig),
}

struct NameOrTable;

impl<'de> Visitor<'de> for NameOrTable {
    type Value = NetworkConfig;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a name such as \"DiT-S/4\", or a table [network.dit] or [network.unet]")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<NetworkConfig, E> {
        name.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NetworkConfig, A::Error> {
        Ok(match Table::deserialize(MapAccessDeserializer::new(map))? {
            Table::Dit(c) => NetworkConfig::Dit(c),
            Table::Unet(c) => NetworkConfig::Unet(c),
        })
    }
}

impl<'de> Deserialize<'de> for NetworkConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(NameOrTable)
    }
}
