output "target" {
  description = "What the name must point to."
  value       = aws_apigatewayv2_domain_name.this.domain_name_configuration[0].target_domain_name
}
