//! Every page, in the order in which the catalogue shows them: a line for each, written by hand.

use crate::{
    autoencoders, backbones_and_latents, diffusion_representations, geometry, graphs, guidance, inverse_problems,
    self_supervised,
};
use pentimento_claims::{Error, Method};
use pentimento_core::nearest;

/// A part of the catalogue.
pub struct Family {
    /// Its folder, and its name in commands.
    pub name: &'static str,
    /// Its pages.
    pub pages: &'static [&'static Method],
}

/// The families.
pub const FAMILIES: &[Family] = &[
    Family { name: "autoencoders", pages: AUTOENCODERS },
    Family { name: "backbones-and-latents", pages: BACKBONES_AND_LATENTS },
    Family { name: "diffusion-representations", pages: DIFFUSION_REPRESENTATIONS },
    Family { name: "geometry", pages: GEOMETRY },
    Family { name: "graphs", pages: GRAPHS },
    Family { name: "guidance", pages: GUIDANCE },
    Family { name: "inverse-problems", pages: INVERSE_PROBLEMS },
    Family { name: "self-supervised", pages: SELF_SUPERVISED },
];

const AUTOENCODERS: &[&Method] = &[
    &autoencoders::vae::METHOD,
    &autoencoders::beta_vae_capacity::METHOD,
    &autoencoders::gumbel_softmax::METHOD,
    &autoencoders::gon::METHOD,
    &autoencoders::vq_wae::METHOD,
];

const BACKBONES_AND_LATENTS: &[&Method] = &[&backbones_and_latents::repa::METHOD];

const DIFFUSION_REPRESENTATIONS: &[&Method] =
    &[&diffusion_representations::soda::METHOD, &diffusion_representations::diffusion_classifier::METHOD];

const GEOMETRY: &[&Method] = &[&geometry::relative_reps::METHOD];

const GRAPHS: &[&Method] = &[&graphs::deepwalk::METHOD];

const GUIDANCE: &[&Method] = &[&guidance::composable_diffusion::METHOD];

const INVERSE_PROBLEMS: &[&Method] = &[&inverse_problems::psld::METHOD];

const SELF_SUPERVISED: &[&Method] = &[&self_supervised::cpc::METHOD, &self_supervised::byol::METHOD];

/// Every page.
pub fn all() -> impl Iterator<Item = &'static Method> {
    FAMILIES.iter().flat_map(|f| f.pages.iter().copied())
}

/// The page of a slug.
///
/// # Errors
/// None of that name, with the nearest one.
pub fn find(slug: &str) -> Result<&'static Method, Error> {
    let slugs: Vec<&str> = all().map(|m| m.slug).collect();
    let hint = || nearest(slug, &slugs).map_or(String::new(), |n| format!("; did you mean {n}?"));
    all().find(|m| m.slug == slug).ok_or_else(|| Error::UnknownMethod { slug: slug.into(), hint: hint() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_claims::{Budget, Case, Lesson, Recipe};
    use pentimento_core::{Condition, Noise};
    use pentimento_data::gather;
    use std::collections::BTreeSet;
    use tch::{Device, Tensor};

    /// What every page promises: a card, a recipe that parses at both budgets, a setting for each of its keys.
    #[test]
    fn every_page_has_a_card_and_a_recipe_that_fits_it() {
        let mut seen = BTreeSet::new();
        for family in FAMILIES {
            for method in family.pages {
                assert!(seen.insert(method.slug), "{} stands twice", method.slug);
                assert_eq!(method.family, family.name);
                let card = method.card().unwrap();
                let (month, number) = card.arxiv.split_once('.').unwrap();
                assert!(month.len() == 4 && (4..=5).contains(&number.len()) && card.year.len() == 4, "{card:?}");
                let recipe = Recipe::of(method).unwrap();
                let known: Vec<String> = (method.settings)().into_iter().map(|s| s.key).collect();
                for table in [&recipe.small, &recipe.paper] {
                    assert!(!table.is_empty(), "{}", method.slug);
                    for key in table.keys() {
                        assert!(
                            known.iter().any(|k| k == key || k.starts_with(&format!("{key}."))),
                            "{key}: {known:?}"
                        );
                    }
                }
                // Its own settings pass the ranges that are read off its defaults.
                let own = [Budget::Small, Budget::Paper]
                    .map(|b| (method.model.is_some()).then(|| Lesson::parse(method, method.recipe, b, &[])));
                own.into_iter().flatten().for_each(|l| assert!(l.is_ok(), "{:?}", l.err()));
                let budgets = [Budget::Small, Budget::Paper].map(|b| recipe.config::<toml::Table>(b));
                assert!(budgets.iter().all(Result::is_ok));
            }
        }
        assert!(seen.len() == all().count() && !seen.is_empty());
    }

    /// Slug, number of arms, and what the card's mathematics holds.
    const PAGES: [(&str, usize, &str); 14] = [
        ("vae", 3, "(eq. 7)"),
        ("beta-vae-capacity", 3, "(section 5)"),
        ("gumbel-softmax", 4, "(eq. 2)"),
        ("gon", 3, "dG/dW"),
        ("vq-wae", 3, "W = max_phi"),
        ("repa", 3, "lambda L_REPA"),
        ("soda", 3, "z_s"),
        ("diffusion-classifier", 4, "(eq. 7)"),
        ("relative-reps", 3, "(section 3)"),
        ("deepwalk", 2, "eq. 5"),
        ("composable-diffusion", 5, "eps_hat"),
        ("psld", 2, "(algorithm 2)"),
        ("cpc", 3, "(eq. 4)"),
        ("byol", 3, "(eq. 2)"),
    ];

    /// Every card holds its formula, and every claim opens its data and has its arms; those on data that is not here are passed over.
    #[test]
    fn every_card_is_whole_and_every_claim_ready_to_run() {
        assert_eq!(all().count(), PAGES.len(), "a page more or less than PAGES has lines");
        let mut ready = 0;
        for (slug, arms, formula) in PAGES {
            let method = find(slug).unwrap();
            assert!(method.card().unwrap().how.contains(formula), "{slug}: {formula}");
            match Case::new(method, Budget::Small) {
                Ok(case) => {
                    assert_eq!(case.claim.arms.len(), arms, "{slug}");
                    ready += 1;
                }
                Err(Error::Data(why)) => println!("skipped: the claim of {slug}: {why}"),
                Err(other) => panic!("{slug}: {other}"),
            }
        }
        assert!(ready >= 4, "{ready}");
    }

    /// Every page that can be trained outside its claim reads, draws and gives back items of the shapes they are promised in, at the
    /// size of its small recipe.
    #[test]
    fn trained_models_answer_in_the_promised_shapes() {
        let mut able = 0;
        for method in all().filter(|m| m.model.is_some()) {
            let slug = method.slug;
            // Worlds come with the program; pictures of others are replaced by embedded ones.
            let set = |keys: &[&str]| keys.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>();
            let owned = !method.recipe.contains("-mnist\"")
                && !method.recipe.contains("\"mnist\"")
                && !method.recipe.contains("cifar");
            let sets = if owned { set(&["seed=3"]) } else { set(&["seed=3", "data.train=digits", "data.test=digits"]) };
            let lesson = Lesson::parse(method, method.recipe, Budget::Small, &sets).unwrap();
            let job = lesson.job("nowhere".into(), Device::Cpu).unwrap();
            let items = gather(job.data.as_ref(), &[5, 6, 9]).unwrap().upload(Device::Cpu);
            let _guard = tch::no_grad_guard();
            let (x, trained) = (&items.x, job.learner.trained().unwrap_or_else(|| panic!("{slug}")));
            let noise = Noise::new(3, items.index.clone());
            let c = Condition::classes(&[0, 1, 0]);
            let c = if job.signature.classes.is_empty() { Condition::none() } else { c };
            let finite = |t: &Tensor| t.isfinite().all().int64_value(&[]) == 1;
            let code = trained.encode(x, &noise);
            let alone = trained.encode(&x.narrow(0, 1, 1), &Noise::new(3, vec![items.index[1]]));
            if let (Some(code), Some(alone)) = (&code, alone) {
                assert!(code.dim() == 2 && code.size()[0] == 3 && finite(code), "{slug}: {:?}", code.size());
                let off = (code.narrow(0, 1, 1) - alone).abs().max().double_value(&[]);
                assert!(
                    off < 1e-3 * code.abs().max().double_value(&[]).max(1.0),
                    "{slug}: a code is its item's alone: {off}"
                );
            }
            let pictures = [trained.generate(&noise, &c), trained.reconstruct(x, &noise)];
            for y in pictures.iter().flatten() {
                assert!(y.size() == x.size() && finite(y), "{slug}: {:?}", y.size());
            }
            assert!(code.is_some() || pictures.iter().any(Option::is_some), "{slug}: can do nothing");
            able += 1;
        }
        assert!(able >= 9, "{able}");
    }

    #[test]
    fn unknown_names_suggest() {
        let say = |slug| find(slug).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(say("relative-rep").contains("did you mean relative-reps?"), "{}", say("relative-rep"));
        assert_eq!(find("relative-reps").unwrap().family, "geometry");
    }
}
