/// The digamma function at 0, 1, ..., n: psi(1) = -gamma, psi(k + 1) = psi(k) + 1/k; at 0, where it has a pole, -infinity.
pub(crate) fn digamma(n: usize) -> Vec<f64> {
    const EULER: f64 = 0.577_215_664_901_532_9;
    let mut values = vec![f64::NEG_INFINITY, -EULER];
    for k in 1..n {
        values.push(values[k] + 1.0 / k as f64);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::assert_close;

    #[test]
    fn equals_scipy() {
        // scipy.special.digamma([1, 2, 10, 1000])
        let values = digamma(1000);
        assert_eq!(values.len(), 1001);
        for (n, want) in
            [(1, -0.5772156649015329), (2, 0.42278433509846713), (10, 2.251752589066721), (1000, 6.907255195648812)]
        {
            assert_close(values[n], want, 1e-13);
        }
    }
}
