output "data_key_arn" {
  description = "The key of data at rest."
  value       = aws_kms_key.data.arn
}

output "signing_key_arn" {
  description = "The key that signs."
  value       = aws_kms_key.signing.arn
}

output "signing_public_key_pem" {
  description = "Its public key in PEM; whoever has it can verify without KMS."
  value       = data.aws_kms_public_key.signing.public_key_pem
}
